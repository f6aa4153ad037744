"""`top`: streams and who reads them, live on the whole screen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..errors import AccessRefused, EventsError
from .behind import Behind
from .lag import show_entries
from .looking import Looker, Moment, Rates
from .options import DEFAULT_REDIS, AnyStreams, Redis
from .output import (
    Cropped,
    make_console,
    make_table,
    print_renderable,
    show_bytes,
    show_count,
    show_seconds,
    shown,
    time_of_id,
)
from .running import readable, run
from .server import connected
from .statuses import DONE

# Seconds between two looks.
INTERVAL: Final = 1.0


def top(stream: AnyStreams = None, redis: Redis = DEFAULT_REDIS) -> int:
    """Streams, and who reads them, live on the whole screen: rates, lag, groups, pending, memory. Press q to quit.

    Into a pipe, one look is written as plain text, after a second that the rates are taken over.

    \b
    Examples:
      mainflux-events top
      mainflux-events top --stream mainflux.things --redis redis://localhost:6379/0
    """
    return run(show_top(redis, stream or ()))


async def show_top(url: str, streams: Sequence[str]) -> int:
    """Show the server until q is pressed, or once where there is no terminal.

    Args:
        url: of the server.
        streams: the keys of those to look at; empty for all.
    """
    console = make_console()
    async with connected(url) as server:
        looker = Looker(server, streams)
        if console.is_terminal:
            await _Screen(console, looker, server.where).follow()
        else:
            before = await looker.look()
            await asyncio.sleep(INTERVAL)
            now = await looker.look()
            print_renderable(console, picture(server.where, now, Rates(before, now)))
    return DONE


class _Screen:
    """The whole terminal, until q is pressed.

    Args:
        console: the terminal.
        looker: what looks.
        where: the server, in words.
    """

    def __init__(self, console: Console, looker: Looker, where: str) -> None:
        self._console = console
        self._looker = looker
        self._where = where
        self._picture: RenderableType = Text("…")

    async def follow(self) -> None:
        live = Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop")
        with live, _single_keys(), self._resized(live):
            looking = asyncio.create_task(self._look(live))
            pressed = asyncio.create_task(_quit_pressed())
            try:
                await asyncio.wait([looking, pressed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                pressed.cancel()
                looking.cancel()
                await asyncio.wait([looking, pressed])
        if not looking.cancelled():
            looking.result()

    async def _look(self, live: Live) -> None:
        before: Moment | None = None
        while True:
            try:
                now = await self._looker.look()
                self._picture = picture(self._where, now, Rates(before, now), keys=True)
                before = now
            except AccessRefused:
                raise
            except EventsError as error:
                self._picture = Group(
                    Text(f"{error}; trying again", style="bold red"), "", self._last(before)
                )
            live.update(self._picture, refresh=True)
            await asyncio.sleep(INTERVAL)

    def _last(self, before: Moment | None) -> RenderableType:
        return "" if before is None else picture(self._where, before, Rates(None, before), keys=True)

    @contextlib.contextmanager
    def _resized(self, live: Live) -> Iterator[None]:
        """While it is entered, a terminal of another size is painted anew at once."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, lambda: live.update(self._picture, refresh=True))
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """While it is entered, the terminal gives each key as it is pressed, and does not show it."""
    if not sys.stdin.isatty():
        yield
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)
        yield
    finally:
        # What was typed and not read is not for the shell.
        termios.tcsetattr(file, termios.TCSAFLUSH, before)


async def _quit_pressed() -> None:
    """Wait until q is pressed, or the terminal is gone."""
    if not sys.stdin.isatty():
        await asyncio.Event().wait()
    file = sys.stdin.fileno()
    while True:
        await readable(file)
        keys = os.read(file, 64)
        if not keys or b"q" in keys.lower():
            return


# --- the picture ----------------------------------------------------------------------------------------------------


def picture(where: str, now: Moment, rates: Rates, *, keys: bool = False) -> RenderableType:
    """What is seen of a moment.

    Args:
        where: the server, in words.
        now: the moment.
        rates: since the one before.
        keys: whether keys are of use.
    """
    about = [
        where,
        f"version {now.version}" if now.version else "",
        f"memory {show_bytes(now.memory)}" if now.memory is not None else "",
        f"{now.clients:,} clients" if now.clients is not None else "",
        f"{datetime.now(UTC):%H:%M:%SZ}",
    ]
    head = Text(" · ".join(part for part in about if part), style="bold")
    parts: list[RenderableType] = [head, "", Cropped(_streams(now, rates)), "", Cropped(_readers(now, rates))]
    if keys:
        parts += ["", Text("q: quit", style="dim")]
    return Group(*parts)


def _streams(now: Moment, rates: Rates) -> Table:
    table = make_table(
        ("stream", ">entries", ">appended/s", ">memory", "last entry", ">subscribers", ">groups")
    )
    for stream in now.streams:
        table.add_row(
            shown(stream.stream),
            show_count(stream.entries),
            show_rate(rates.appended(stream.stream)),
            show_bytes(stream.memory),
            time_of_id(stream.last) or "-",
            show_count(len(stream.subscribers)),
            show_count(len(stream.groups)),
        )
    return table


def _readers(now: Moment, rates: Rates) -> Table:
    table = make_table(
        ("reader", "kind", "stream", ">entries behind", ">behind", ">handled/s", ">pending", ">idle")
    )
    for reader in now.readers:
        table.add_row(
            shown(reader.name),
            reader.kind,
            shown(reader.stream),
            reader.trouble or show_entries(reader),
            show_seconds(reader.seconds),
            show_rate(rates.handled(reader)),
            show_count(reader.pending),
            show_seconds(reader.idle),
            style=_style(reader),
        )
    return table


def _style(reader: Behind) -> str:
    if reader.trouble:
        return "bold red"
    return "" if reader.entries == 0 else "yellow"


def show_rate(rate: float | None) -> str:
    """Entries a second; a dash where that is not known."""
    return "-" if rate is None else f"{rate:,.0f}"
