"""From a source to a target, until the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import typer

from ...errors import AccessRefused, ConfigError, StreamGap, StreamReset
from ...link import Link
from ...resp import command
from ...tasks import conclude
from .position import Position
from .side import PATIENCE, Side
from .source import Read, Source
from .target import Target

# Takes what was read when it is appended, and how far the copy is; and what is missing, in its place.
Shown: TypeAlias = "Callable[[Read, Position], None]"
Told: TypeAlias = "Callable[[StreamGap | StreamReset], None]"


def link_of(url: str, option: str) -> Link:
    """The server of a URL. The option is named where it cannot work."""
    try:
        return Link(url, PATIENCE)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@asynccontextmanager
async def open_sides(*sides: Side) -> AsyncIterator[None]:
    """Their connections end with this."""
    try:
        yield
    finally:
        await conclude([side.aclose() for side in sides])


async def transfer(source: Source, target: Target, shown: Shown, told: Told) -> None:
    """Append all that is behind the place where the source begins, in order."""
    while (read := await source.read()) is not None:
        for notice in read.told:
            told(notice)
        await target.append(read.entries)
        shown(read, target.position)


async def refuse_itself(source: Source, target: Target) -> None:
    """A stream that is copied to itself would never end.

    Raises:
        ConfigError: source and target are the same stream of the same server.
    """
    if source.key != target.key:
        return
    same = source.where == target.where
    if not same and source.where.rpartition(" ")[2] == target.where.rpartition(" ")[2]:
        ids = [await _run_id(side) for side in (source, target)]
        same = ids[0] is not None and ids[0] == ids[1]
    if same:
        raise ConfigError(f"{source.key!r} would be copied to itself: give another stream, or another server")


async def _run_id(side: Side) -> bytes | None:
    """What the server calls itself; None where it does not say."""
    try:
        [info] = await side.ask(command("INFO", "server"), 1, probes=1)
    except AccessRefused:
        return None
    lines = info.splitlines() if isinstance(info, bytes) else []
    return next((line for line in lines if line.startswith(b"run_id:")), None)
