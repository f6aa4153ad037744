"""The commands put together, and what their errors come to: one line on stderr and an exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from redis.exceptions import RedisError

from .. import EventsError, __version__
from ..testing import ServerFailed, ServerNotFound
from .demo.command import demo
from .lag import lag
from .publish import publish
from .schema import schema
from .seek import seek
from .statuses import FAILED, INTERRUPTED, WRONG_USAGE
from .streams import streams
from .tail import tail
from .top import top

PROGRAM = "mainflux-events"

app: typer.Typer = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(streams)
app.command()(schema)
app.command()(lag)
app.command()(seek)
app.command()(publish)
app.command()(tail)
app.command()(top)
app.command()(demo)

# The base of Typer's complaints about a command line. Not each version that is supported has a public name for it.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def mainflux_events(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Domain events on Redis Streams: look at them, and act on them.

    The server is given by --redis, or by the environment variable MAINFLUX_EVENTS_REDIS.

    To see both sides at work, with nothing else installed: mainflux-events demo

    Exit status: 0 done; 1 failed; 2 wrong usage; 3 done in part, or something was found; 130 interrupted.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(WRONG_USAGE)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (that of the process, where none is given). Gives the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="replace"
        )  # a terminal that cannot show a character is no reason to fail
    try:
        status = app(arguments, prog_name=PROGRAM, standalone_mode=False) or 0
    except _UsageError as error:
        return _complain(error.format_message(), WRONG_USAGE)  # type: ignore[attr-defined]
    except typer.Abort:
        return _complain("nothing was done", FAILED)
    except Exception as error:
        cause = _first_of(error)
        if isinstance(cause, BrokenPipeError):
            # Nobody is there to be told, also not of what is still to be written at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        if not isinstance(cause, EventsError | RedisError | ServerFailed | ServerNotFound):
            raise
        what = "the server cannot be used: " if isinstance(cause, RedisError) else ""
        return _complain(f"{what}{cause}", FAILED)
    return _complain("interrupted", INTERRUPTED) if status == INTERRUPTED else status


def _first_of(error: BaseException) -> BaseException:
    """The error itself; the first, of those that the tasks of a group have raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _complain(message: str, status: int) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return status
