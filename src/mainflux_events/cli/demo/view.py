"""What is seen of a run: a live picture in a terminal, lines anywhere else, and the table at the end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Mapping
from typing import Final

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table

from ... import Lag
from ...actions import PLATFORM_ACTIONS
from .run import Run

# Seconds between two pictures, between two lines, and that a rate is taken over.
PICTURE, LINE, WINDOW = 0.2, 1.0, 1.0

# Seconds that the last look may take.
PATIENCE: Final = 1.0

_EXPLANATION: Final = (
    "Each event of a run has an occurred_at of its own, by which it is known again. Lost: published and never\n"
    "handled. Twice: handled more than once. In order: as published."
)


def make_console() -> Console:
    """The console: without any control character where there is no terminal, or where it is not wanted."""
    plain = "NO_COLOR" in os.environ or "CI" in os.environ or os.environ.get("TERM") == "dumb"
    return _Console(force_terminal=sys.stdout.isatty() and not plain, highlight=False)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read the output is gone: end, by an exception that a task can pass on."""
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()
        raise BrokenPipeError


class Meter:
    """The rate of a count that grows, over the last second."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def __call__(self, count: int) -> float:
        """Note the count as it is now. Gives the rate, a second."""
        now = anyio.current_time()
        self._samples.append((now, count))
        while self._samples[0][0] < now - WINDOW and len(self._samples) > 2:
            self._samples.popleft()
        began, before = self._samples[0]
        return (count - before) / (now - began) if now > began else 0.0


class View:
    """Looks at a run while it lasts.

    Args:
        run: what is looked at.
        client: of the same server, for the cursors as they are stored.
        console: where it is shown.
    """

    def __init__(self, run: Run, client: Redis, console: Console) -> None:
        self._run = run
        self._client = client
        self._console = console
        self._began = anyio.current_time()
        self._told = 0
        self._rates: dict[str, float] = {}
        self._meters = {name: Meter() for name in ("", *(consumer.name for consumer in run.consumers))}
        self._lags: dict[str, Lag | None] = {}
        self._cursors: dict[str, str] = {}

    async def follow(self) -> None:
        """Show the run until cancelled."""
        if self._console.is_terminal:
            await self._follow_live()
        else:
            await self._follow_in_lines()

    async def _follow_live(self) -> None:
        with Live(console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    await self._look()
                    live.update(self._picture(), refresh=True)
                    await anyio.sleep(PICTURE)
            finally:
                await self._look_last()
                live.update(self._picture(), refresh=True)

    async def _follow_in_lines(self) -> None:
        due = self._began
        try:
            while True:
                await self._look()
                self._tell()
                if anyio.current_time() >= due:
                    due += LINE
                    self._console.print(self._line(), soft_wrap=True)
                await anyio.sleep(PICTURE)
        finally:
            await self._look_last()
            self._tell()
            self._console.print(self._line(), soft_wrap=True)

    async def _look(self) -> None:
        """Take what has to be asked for, and the rates."""
        self._rates[""] = self._meters[""](len(self._run.published))
        for consumer in self._run.consumers:
            self._rates[consumer.name] = self._meters[consumer.name](len(consumer.tally))
            self._lags[consumer.name] = await consumer.lag()
            try:
                self._cursors[consumer.name] = str(await self._client.get(consumer.key) or "")
            except RedisError:
                continue

    async def _look_last(self) -> None:
        """The last look shows how it ended; the run was cancelled by then."""
        with anyio.move_on_after(PATIENCE, shield=True):
            await self._look()

    # --- a terminal ---

    def _picture(self) -> RenderableType:
        stats = self._run.publisher.stats
        done = ProgressBar(total=self._run.events, completed=len(self._run.published), width=60)
        publisher = _table("publisher", "published", "events/s", "buffered", "in flight", "acknowledged")
        publisher.add_row(
            "",
            f"{stats.accepted:,}",
            f"{self._rates.get('', 0):,.0f}",
            f"{stats.buffered:,}",
            f"{stats.in_flight:,}",
            f"{stats.acknowledged:,}",
        )
        subscribers = _table("subscriber", "handled", "events/s", "lag", "stored cursor", "state")
        for consumer in self._run.consumers:
            subscribers.add_row(
                consumer.name,
                f"{len(consumer.tally):,}",
                f"{self._rates.get(consumer.name, 0):,.0f}",
                self._behind(consumer.name),
                self._cursors.get(consumer.name, ""),
                consumer.state,
            )
        return Group(Padding(done, (1, 0)), publisher, "", subscribers, "", *self._run.messages)

    def _behind(self, name: str) -> str:
        lag = self._lags.get(name)
        if lag is None:
            return "-"
        return f"{lag.seconds:,.1f} s" if lag.entries is None else f"{lag.entries:,}"

    # --- lines ---

    def _tell(self) -> None:
        for message in self._run.messages[self._told :]:
            self._console.print(message, soft_wrap=True)
        self._told = len(self._run.messages)

    def _line(self) -> str:
        stats = self._run.publisher.stats
        published = (
            f"{anyio.current_time() - self._began:5.1f} s: published {stats.accepted:,} "
            f"({self._rates.get('', 0):,.0f}/s), buffered {stats.buffered:,}, in flight {stats.in_flight:,}"
        )
        handled = [
            f"{consumer.name} {consumer.state}, handled {len(consumer.tally):,} "
            f"({self._rates.get(consumer.name, 0):,.0f}/s), lag {self._behind(consumer.name)}, "
            f"cursor {self._cursors.get(consumer.name) or '-'}"
            for consumer in self._run.consumers
        ]
        return "; ".join((published, *handled))


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=None, pad_edge=False, header_style="bold")
    for name in others:
        table.add_column(name, justify="left" if name == "state" else "right", min_width=10)
    return table


def report(run: Run) -> RenderableType:
    """The table at the end, and what it says in words."""
    tallies = {"published": run.published} | {each.name: each.tally for each in run.consumers}
    table = _table("operation", *tallies)
    counts = {name: tally.counts for name, tally in tallies.items()}
    for action in PLATFORM_ACTIONS:
        table.add_row(action.operation, *(f"{each[action.operation]:,}" for each in counts.values()))
    table.add_section()
    for title, cells in _summary(run).items():
        table.add_row(title, *(cells.get(name, "") for name in tallies), style="bold")
    return Group(table, "", _EXPLANATION, "", _in_words(run))


def _summary(run: Run) -> dict[str, Mapping[str, str]]:
    tallies = {"published": run.published} | {each.name: each.tally for each in run.consumers}
    verdicts = run.verdicts
    rows: dict[str, Mapping[str, str]] = {
        "all": {name: f"{len(tally):,}" for name, tally in tallies.items()},
        "events/s": {name: f"{tally.rate:,.0f}" for name, tally in tallies.items()},
        "lost": {name: f"{verdict.lost:,}" for name, verdict in verdicts.items()},
        "twice": {name: f"{verdict.twice:,}" for name, verdict in verdicts.items()},
        "in order": {name: "yes" if verdict.in_order else "no" for name, verdict in verdicts.items()},
    }
    if any(verdict.foreign for verdict in verdicts.values()):
        rows["not ours"] = {name: f"{verdict.foreign:,}" for name, verdict in verdicts.items()}
    return rows


def _in_words(run: Run) -> str:
    if run.agrees:
        return f"Both handled all {len(run.published):,} events."
    acknowledged = run.publisher.stats.acknowledged
    wrong = []
    for name, verdict in run.verdicts.items():
        if verdict.lost:
            wrong.append(f"{name} lost {verdict.lost:,}")
        if verdict.foreign:
            wrong.append(f"{name} handled {verdict.foreign:,} that were not published")
        if not verdict.in_order:
            wrong.append(f"{name} did not handle them in order")
    if acknowledged != len(run.published):
        wrong.append(f"{acknowledged:,} of {len(run.published):,} were acknowledged")
    return f"The counts do not agree: {', '.join(wrong or ['see the table'])}."
