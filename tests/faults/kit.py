"""What the tests of faults share."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from redis.asyncio import Redis

import consuming
from histories import STREAM, History, Readings, missing, stored_entries
from mainflux_events import Hooks, Publisher, Subscriber
from mainflux_events.testing import RedisServer
from support import in_background, wait_until

# How publishers append, and which ways the tests go.
Mode = Literal["default", "idempotent"]
MODES: Final[list[Mode]] = ["default", "idempotent"]

# Seconds that closing may take beyond its bound; where each line is traced for the coverage, more.
LATE: Final = 0.5 if sys.gettrace() is None else 2.0


@dataclass
class Tally:
    """What happened in a run, or in several.

    Attributes:
        counts: of events, by what became of them.
        faults: how often each was injected.
        violations: what should not have happened; empty where all is well.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, history: History, publisher: Publisher, entries: Mapping[str, str]) -> None:
        """Hold the history of a publisher against what is stored, and count."""
        name = f"{history.name}: " if history.name else ""
        self.violations += [f"{name}{each}" for each in history.violations(publisher, entries)]
        own, account = history.own(entries), history.account(publisher)
        for count in ("accepted", "acknowledged", "dropped", "undelivered", "retries", "reconnects"):
            self.counts[count] += getattr(publisher.stats, count)
        self.counts["promised"] += account.duplicates
        self.counts["stored"] += len(own)
        self.counts["stored again"] += len(own) - len(set(own.values()))
        self.counts["lost"] += len(missing(account, own))

    def __iadd__(self, other: Tally) -> Tally:
        self.counts += other.counts
        self.faults += other.faults
        self.violations += other.violations
        return self


async def stored(server: RedisServer) -> dict[str, str]:
    """What is in the stream, in its order: the things, by the IDs of the entries."""
    async with Redis.from_url(server.url) as client:
        return await stored_entries(client)


@contextlib.asynccontextmanager
async def publishing(history: History, publisher: Publisher) -> AsyncIterator[None]:
    """Publish all the while, as fast as other tasks allow."""

    async def loop() -> None:
        while True:
            history.publish(publisher, 50)
            await asyncio.sleep(0.001)

    async with in_background(loop()):
        yield


async def more(count: Callable[[], int], by: int = 1) -> None:
    """Wait until a count is so much higher than now."""
    before = count()
    await wait_until(lambda: count() >= before + by)


async def more_acknowledged(publisher: Publisher, events: int = 500) -> None:
    """Wait until so many further events are acknowledged."""
    await more(lambda: publisher.stats.acknowledged, events)


def turns(calling: Coroutine[Any, Any, Any]) -> int:
    """How many turns of the event loop a call takes that waits for nothing else; one that waits raises here."""
    for number in itertools.count():
        try:
            calling.send(None)
        except StopIteration:
            return number
    raise AssertionError


# --- subscribing ---


def subscriber(at: RedisServer | str, *hooks: Hooks, name: str = "audit", **settings: Any) -> Subscriber:
    """One that reads from the beginning."""
    url = at if isinstance(at, str) else at.url
    return Subscriber(url, STREAM, name, hooks=hooks, **({"start": "earliest"} | settings))


async def append(client: Redis, *ids: str) -> list[str]:
    """Append a removed thing of each ID; gives the IDs of the entries."""
    return await consuming.append(client, *ids, stream=STREAM)


async def cursor(client: Redis, name: str = "audit") -> str | None:
    """What is stored as a subscriber's cursor."""
    return await consuming.stored(client, name, STREAM)


async def until_stored(client: Redis, id: str) -> None:
    """Wait until that is the cursor."""

    async def is_stored() -> bool:
        return await cursor(client) == id

    await wait_until(is_stored, what=f"the cursor is {id}")


@contextlib.asynccontextmanager
async def consumed(subscriber: Subscriber, readings: Readings) -> AsyncIterator[None]:
    """Consume all the while, in one loop."""

    async def loop() -> None:
        async for event in subscriber:
            readings.note(event.id)

    readings.begin()
    task = asyncio.create_task(loop())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def all_read(readings: Readings, server: RedisServer) -> dict[str, str]:
    """Wait until the end of the stream is reached. Gives what is in it; an AssertionError if that was not read well."""
    entries = await stored(server)
    await wait_until(lambda: readings.loops[-1][-1:] == list(entries)[-1:], what="the last entry is read")
    found = readings.violations(list(entries))
    assert not found, "\n".join(found)
    return entries
