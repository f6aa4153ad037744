"""pytest as a process of its own, for what plugins do."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

# As a user would have it: none of this project's settings.
SETTINGS = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


async def run_pytest(folder: Path, files: dict[str, str], *options: str) -> tuple[int, str]:
    """Run the tests in some files. Gives the exit code and the output."""
    for name, text in {"pytest.ini": SETTINGS, **files}.items():
        (folder / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:xdist", *options,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()
