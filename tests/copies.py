"""Copies of streams in the tests: entries of every kind, and a copy that runs in the process of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import pytest

from commands import Outcome
from mainflux_events.cli.app import run
from mainflux_events.cli.copying.position import Steps, position_key
from mainflux_events.cli.copying.source import Source
from mainflux_events.cli.copying.target import Target
from mainflux_events.cli.copying.transfer import open_sides, transfer
from mainflux_events.deadletters import MOST_WORDS
from mainflux_events.link import Link
from mainflux_events.testing import RedisServer

Fields = list[bytes]

T = TypeVar("T")

# What a copy has to keep: an operation that is unknown, bytes that are no UTF-8, a name that occurs twice, nanoseconds,
# nothing at all, and more fields than a script can hand on.
EVERY_KIND: list[Fields] = [
    [b"operation", b"thing.remove", b"id", b"t1", b"occurred_at", b"2026-01-01T00:00:00.123456789Z"],
    [b"operation", b"nobody.knows", b"\xff\xfe", b"\x00\r\n", b"", b""],
    [b"name", b"one", b"name", b"two"],
    [b"%d" % number for number in range(MOST_WORDS + 2)],
    [b"operation", b"thing.remove", b"id", "Küche \U0001f600".encode()],
]


def numbered(count: int) -> list[Fields]:
    """So many entries, each with its number."""
    return [[b"operation", b"thing.remove", b"id", b"%d" % number] for number in range(count)]


def shown(capture: pytest.CaptureFixture[str], *arguments: str) -> Outcome:
    """Run a command in this process, which takes a fraction of the time. For tests that are no coroutines."""
    status = run(arguments)
    return Outcome(status, *capture.readouterr())


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await something in a test that is no coroutine."""
    return asyncio.run(coroutine)


async def fill(server: RedisServer, stream: str, entries: Iterable[Fields]) -> list[str]:
    """Append entries. Gives their IDs."""
    return [(await server.command("XADD", stream, "*", *fields)).decode() for fields in entries]


async def held(server: RedisServer, stream: str) -> list[Fields]:
    """The fields of the entries of a stream."""
    return [fields for _, fields in await server.command("XRANGE", stream, "-", "+")]


async def ids_of(server: RedisServer, stream: str) -> list[str]:
    """The IDs of the entries of a stream."""
    return [id.decode() for id, _ in await server.command("XRANGE", stream, "-", "+")]


async def copy(source_url: str, target_url: str, end: str, **options: Any) -> list[Any]:
    """Copy the stream `source` to `target`, from the beginning or from where it is stored. Gives what was told."""
    steps = Steps("target", position_key("replay", "test", "target"), "what", kept=None, max_len=None,
                  keep_ids=options.get("keep_ids", False))  # fmt: skip
    source, target = Source(Link(source_url, 5.0), "source", end), Target(Link(target_url, 5.0), steps)
    source.persistent = target.persistent = options.get("persistent", False)
    told: list[Any] = []
    async with open_sides(source, target):
        extent = await source.extent()
        stored = await target.stored()
        await target.begin("0-0")
        if stored is None:
            source.begin("0-0", extent)
        else:
            source.resume(stored.id)
        await transfer(source, target, lambda read, position: None, told.append)
    return told
