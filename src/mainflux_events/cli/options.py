"""What several commands are told: the server, the streams, times, modules of actions, the form of the output."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeAlias

import typer

from ..actions import AUTH_STREAM, THINGS_STREAM
from ..cursor import Start, parse_id

REDIS_VARIABLE: Final = "MAINFLUX_EVENTS_REDIS"
DEFAULT_REDIS: Final = "redis://localhost:6379/0"
PLATFORM: Final = (THINGS_STREAM, AUTH_STREAM)

# A place in a stream, a `Start` of `cursor`, as the type of an option or an argument with `parser=parse_when`: Typer
# takes no unions.
When: TypeAlias = Any

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def parse_duration(text: str) -> timedelta | None:
    """A time such as `90s`, `10m`, `1h30m` or `7d`; None where it is none."""
    if not _DURATION.fullmatch(text):
        return None
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    except OverflowError:
        return None


def parse_when(text: Start) -> Start:
    """A place in a stream: a duration back from now, a time with its zone, an entry's ID, `earliest` or `new`.

    Raises:
        typer.BadParameter: it is none of those.
    """
    if not isinstance(text, str):
        return text
    if text in ("earliest", "new") or parse_id(text) is not None:
        return text
    if (duration := parse_duration(text)) is not None:
        return duration
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is none of: a duration back from now (10m), a time (2026-01-01T00:00Z), the ID of an entry "
            "(1526919030474-55), earliest, new"
        ) from None
    if time.utcoffset() is None:
        raise typer.BadParameter(f"{text!r} has no time zone: write {time.isoformat()}Z for UTC")
    return time


def import_modules(names: Iterable[str]) -> None:
    """Import modules, whose action classes are known then. The current directory is looked in first.

    Raises:
        typer.BadParameter: one is not there, or cannot be imported.
    """
    if names and "" not in sys.path:
        sys.path.insert(0, "")
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            reason = f"{name} cannot be imported: {type(error).__name__}: {error}"
            raise typer.BadParameter(reason, param_hint="--import") from error


# The commands' options. A command that has one of them takes it by this name, with the default that is said here.

# = DEFAULT_REDIS
Redis: TypeAlias = Annotated[
    str,
    typer.Option(
        "--redis", envvar=REDIS_VARIABLE, metavar="URL", help="The server: redis://, rediss://, unix://."
    ),
]

# = None, for which the command takes PLATFORM
Streams: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--stream", metavar="KEY", help=f"A stream; may be repeated.  [default: {', '.join(PLATFORM)}]"
    ),
]

# = None, for which the command takes all that there are
AnyStreams: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--stream", metavar="KEY", help="A stream; may be repeated.  [default: all]"),
]

# = False
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

# = None
Modules: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="A module with actions of your own; may be repeated."),
]

# = False
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]

# = False
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
