"""The command `mainflux-events`, a file for each of its commands. It needs the extra `cli`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process. Gives its exit status: 0, see `statuses`."""
    try:
        from .app import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("rich", "typer"):
            raise
        print(
            f"mainflux-events: {missing} is not installed: "
            'python -m pip install "mainflux-events[cli]" brings what the commands need',
            file=sys.stderr,
        )
        return 1
    return run()
