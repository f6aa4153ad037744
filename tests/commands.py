"""The command line, run as a user runs it: as a process, in pipes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple

# What makes a program write as to a terminal, or not to, is up to each test; and so is the server.
CLEARED = (
    "CI",
    "COLUMNS",
    "FORCE_COLOR",
    "LINES",
    "MAINFLUX_EVENTS_REDIS",
    "NO_COLOR",
    "PY_COLORS",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
)
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in CLEARED} | {"TERM": "xterm"}


class Outcome(NamedTuple):
    """What came of a command."""

    status: int
    output: str
    errors: str

    @property
    def lines(self) -> list[str]:
        """The lines of the output."""
        return self.output.splitlines()

    @property
    def json(self) -> list[Any]:
        """The output, a JSON value a line."""
        return [json.loads(line) for line in self.lines]

    @property
    def complaint(self) -> str:
        """The one line on stderr that says what is wrong, and no traceback."""
        assert self.errors.count("\n") == 1, self.errors
        assert self.errors.startswith("mainflux-events: ")
        return self.errors


@contextlib.asynccontextmanager
async def running(
    *arguments: str, cwd: str | None = None, stdin: int = asyncio.subprocess.PIPE, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command with these arguments, its outputs (and its input, if nothing else is said) in pipes.

    At the end, it is killed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mainflux_events", *arguments, cwd=cwd, env=ENVIRONMENT | environment,
        stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def command(*arguments: str, stdin: str = "", cwd: str | None = None, **environment: str) -> Outcome:
    """Run it to its end."""
    async with running(*arguments, cwd=cwd, **environment) as process:
        output, errors = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Outcome(process.returncode, output.decode(), errors.decode())


async def called(showing: Awaitable[int]) -> Outcome:
    """What a command does, without a process of its own for it: the quicker way, for what is not about processes."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        status = await showing
    return Outcome(status, output.getvalue(), errors.getvalue())
