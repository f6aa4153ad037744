"""How far a copy is, for people: a bar on a terminal, and a line at the end."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ...errors import StreamGap, StreamReset
from ..output import make_console, note, print_json, show_count, shown
from .position import Position


class Bar:
    """A bar on stderr, where that is a terminal. Nothing anywhere else.

    Args:
        what: what is done, such as `replay things`.
        bounded: whether an end is known; else there is only a count.

    Attributes:
        live: whether it is to be seen.
    """

    def __init__(self, what: str, *, bounded: bool) -> None:
        console = make_console(stderr=True)
        self.live: bool = console.is_terminal
        columns: list[ProgressColumn] = [BarColumn(), TaskProgressColumn()] if bounded else [SpinnerColumn()]
        said = TextColumn("{task.fields[said]}", markup=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            *columns,
            said,
            TimeElapsedColumn(),
            console=console,
            disable=not self.live,
        )
        self._task = self._progress.add_task(shown(what), total=1.0 if bounded else None, said="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, count: int, done: float | None = None, more: str = "") -> None:
        """So many entries are copied, and so much of the whole, from 0 to 1."""
        self._progress.update(self._task, completed=done, said=f"{entries(count)}{more}")


class Missing:
    """Tells what is missing, and counts it.

    Attributes:
        told: how often something was told.
        missed: how many entries are missing at most, as far as that can be told.
    """

    def __init__(self) -> None:
        self.told: int = 0
        self.missed: int = 0

    def __call__(self, notice: StreamGap | StreamReset) -> None:
        self.told += 1
        if isinstance(notice, StreamGap):
            self.missed += notice.missed or 0
        note(f"warning: {notice}")


def report(
    done: str, position: Position, before: int, *, as_json: bool, missing: Missing | None = None
) -> None:
    """The last line of a copy, or its JSON on stdout.

    Args:
        done: what was done with the entries: "copied 'a' to 'b'".
        position: how far it is now.
        before: how many entries had been appended when it began.
        as_json: whether it is for a program.
        missing: what was missing.
    """
    now = position.count - before
    if as_json:
        counts = {"appended": now, "total": position.count, "last": position.id}
        print_json(counts | ({} if missing is None else {"gaps": missing.told, "missed": missing.missed}))
        return
    earlier = f", {entries(before)} before" if before else ""
    note(f"{done}: {entries(now)} now{earlier}, up to {position.id}")


def entries(count: int) -> str:
    """So many of them, in words."""
    return "1 entry" if count == 1 else f"{show_count(count)} entries"


def share_of(id: str, first: str, last: str) -> float:
    """How much of the time between two IDs has passed at a third one, from 0 to 1."""
    at, begins, ends = (int(each.partition("-")[0]) for each in (id, first, last))
    return min(1.0, max(0.0, (at - begins) / max(1, ends - begins)))
