"""Make pictures of the package at work: `python -m pictures --help`."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

NAMES = ("demo", "top", "dashboard")
IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pictures", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which, of {', '.join(NAMES)}; without, all"
    )
    parser.add_argument("--directory", type=Path, default=IMAGES, help="where to (docs/images)")
    parser.add_argument("--prometheus", help="the program that answers the queries of the dashboard")
    chosen = parser.parse_args()
    names = chosen.names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}")
    if "dashboard" in names and chosen.prometheus is None:
        parser.error("the dashboard needs --prometheus")
    logging.getLogger("mainflux_events").setLevel(logging.CRITICAL)  # what fails in a scene is meant to
    for name in names:
        path = chosen.directory / f"{name}.svg"
        asyncio.run(_maker(name, chosen.prometheus)(path))
        print(path)


def _maker(name: str, prometheus: str) -> Callable[[Path], Coroutine[None, None, None]]:
    # Each with its own imports: what the dashboard needs is much, and of use for nothing else.
    if name == "dashboard":
        from pictures.dashboard import dashboard

        return partial(dashboard, prometheus)
    from pictures import screens

    return {"demo": screens.demo, "top": screens.top}[name]


if __name__ == "__main__":
    main()
