"""What commands write: tables and lines for people, plain where nobody looks at a terminal; JSON for programs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import typer
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table

from ..values import text_of
from .running import readable

_DASH: Final = "-"
_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def make_console(*, stderr: bool = False) -> Console:
    """The console: without any control character where there is no terminal, or where it is not wanted."""
    file = sys.stderr if stderr else sys.stdout
    plain = "NO_COLOR" in os.environ or "CI" in os.environ or os.environ.get("TERM") == "dumb"
    return _Console(stderr=stderr, force_terminal=file.isatty() and not plain, highlight=False, emoji=False)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read the output is gone: end, by an exception that a task can pass on."""
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()
        raise BrokenPipeError


def print_json(value: Any) -> None:
    """One line of JSON on stdout, in ASCII, at once: a lone surrogate stands for a byte that is no UTF-8."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; into a pipe, it is as wide as it has to be. A column `>name` has numbers, at the right."""
    table = make_table(columns)
    for row in rows:
        table.add_row(*map(shown, row))
    print_renderable(console, table)


def print_renderable(console: Console, what: RenderableType) -> None:
    """Print what rich lays out; into a pipe, as wide as it has to be, and nothing at the ends of lines."""
    if console.is_terminal:
        console.print(what)
        return
    console.width = 10_000
    with console.capture() as captured:
        console.print(what)
    console.out("\n".join(line.rstrip() for line in captured.get().splitlines()), highlight=False)


def make_table(columns: Sequence[str]) -> Table:
    """An empty table, as `print_table` prints."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        number = name.startswith(">")
        table.add_column(name.removeprefix(">"), justify="right" if number else "left", no_wrap=True)
    return table


class Cropped:
    """A table as wide as it has to be; what has no room at the right is left out, rather than a bit of each column.

    Args:
        table: the table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(
            width=Measurement.get(console, options.update(width=10_000), self._table).maximum
        )
        for line in console.render_lines(self._table, wide, pad=False):
            yield from Segment.adjust_line_length(line, options.max_width, pad=False)
            yield Segment.line()


def note(message: str) -> None:
    """A line for people on stderr, beside the output."""
    print(shown(message), file=sys.stderr, flush=True)


async def confirm(question: str, *, yes: bool) -> bool:
    """Whether it is to be done: as was said on the command line, or is answered on the terminal.

    Raises:
        typer.BadParameter: there is nobody to be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask at: say --yes", param_hint="--yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    # A terminal gives whole lines; until there is one, signals find an event loop that runs.
    await readable(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# --- single values -------------------------------------------------------------------------------------------------


def shown(text: str | bytes) -> str:
    """A text that somebody else has chosen, without what would move the cursor or colour the terminal."""
    characters = text_of(text) if isinstance(text, bytes) else text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
        for each in characters
    )


def show_count(count: int | None) -> str:
    """A number of things; a dash where it is not known."""
    return _DASH if count is None else f"{count:,}"


def show_bytes(size: int | None) -> str:
    """A size: `512 B`, `1.5 MiB`."""
    if size is None:
        return _DASH
    amount, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"


def show_seconds(seconds: float | None) -> str:
    """A duration: `1.5 s`, `12.0 m`, `3.2 d`."""
    if seconds is None:
        return _DASH
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} s"


def time_of_id(id: str | None) -> str | None:
    """When an entry was appended, by its ID, in UTC; None where there is none, or no such time."""
    if not id or id == "0-0":
        return None
    with contextlib.suppress(ValueError, OverflowError, OSError):
        time = datetime.fromtimestamp(int(id.partition("-")[0]) / 1000, UTC)
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return None
