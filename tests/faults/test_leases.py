"""Several readers of one name: the one that reads is killed, stopped, asked to end, and cut off from its server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from consuming import Recorder, thing
from faults.kit import append, cursor, subscriber, until_stored
from faults.proxy import Proxy
from mainflux_events import SubscriberBusy
from mainflux_events.testing import RedisServer
from support import wait_until

CONSUMER = Path(__file__).parent / "leased_consumer.py"
TTL = 1.0
TAKE_OVER = 15.0  # seconds within which another one has to read; far more than it takes


class Consumer:
    """A process of `leased_consumer.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def says(self, line: str) -> None:
        assert self.process.stdout is not None
        said = await asyncio.wait_for(self.process.stdout.readline(), TAKE_OVER)
        assert said.decode().strip() == line


class Fleet:
    """Processes that all read the same name, and what they handled."""

    def __init__(self, server: RedisServer, client: Redis) -> None:
        self._url = server.url
        self._client = client
        self.consumers: list[Consumer] = []

    async def start(self) -> Consumer:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(CONSUMER), self._url, str(TTL),
            stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        consumer = Consumer(process)
        self.consumers.append(consumer)
        await consumer.says("started")
        return consumer

    async def handled(self) -> list[tuple[int, str]]:
        """By which process, and what, in the order of the notes."""
        lines = [line.decode().split() for line in await self._client.lrange("handled", 0, -1)]
        return [(int(pid), thing) for pid, thing in lines]

    async def reader(self, *, other_than: Consumer | None = None, events: int = 30) -> Consumer:
        """The one that reads, once it has handled so many events."""
        found: list[Consumer] = []

        async def enough() -> bool:
            by = Counter(pid for pid, _ in (await self.handled())[since:])
            found[:] = [each for each in self.consumers if by[each.pid] >= events and each is not other_than]
            return bool(found)

        since = len(await self.handled())
        await wait_until(enough, TAKE_OVER, what="another one reads")
        return found[0]


@contextlib.asynccontextmanager
async def fleet(server: RedisServer, client: Redis, size: int) -> AsyncIterator[Fleet]:
    """So many processes, while somebody appends events all the time; all of these are handled at the end."""
    result = Fleet(server, client)
    appended: list[str] = []

    async def append_on() -> None:
        while not enough.is_set():
            appended.append(f"t{len(appended)}")
            await append(client, appended[-1])
            await asyncio.sleep(0.002)

    enough = asyncio.Event()
    appending = asyncio.create_task(append_on())
    try:
        await asyncio.gather(*(result.start() for _ in range(size)))
        yield result
        enough.set()
        await appending

        async def all_handled() -> bool:
            return {thing for _, thing in await result.handled()} == set(appended)

        await wait_until(all_handled, TAKE_OVER)
        firsts = list(dict.fromkeys(thing for _, thing in await result.handled()))
        assert firsts == appended, "in order, but for what came again"
    finally:
        enough.set()
        await asyncio.wait([appending])
        for consumer in result.consumers:
            with contextlib.suppress(ProcessLookupError):
                consumer.process.kill()
            await consumer.process.communicate()


def repeated(handled: list[tuple[int, str]]) -> list[str]:
    """What was handled more than once."""
    return [thing for thing, times in Counter(thing for _, thing in handled).items() if times > 1]


async def test_reader_killed_another_takes_over_and_only_what_it_had_in_hand_comes_again(
    server: RedisServer, client: Redis
) -> None:
    in_hand: list[str] = []
    async with fleet(server, client, 4) as processes:
        for _ in range(3):
            reader = await processes.reader()
            reader.send(signal.SIGKILL)
            await reader.process.wait()
            in_hand.append([thing for pid, thing in await processes.handled() if pid == reader.pid][-1])
        await processes.reader()
        handled = await processes.handled()
    # Killed between its note and the commit, the event was handled; before its note, it was not.
    assert set(repeated(handled)) <= set(in_hand)
    assert len(handled) - len({thing for _, thing in handled}) <= len(in_hand)


async def test_reader_hangs_another_takes_over_and_it_does_nothing_more_when_it_goes_on(
    server: RedisServer, client: Redis
) -> None:
    async with fleet(server, client, 2) as processes:
        hung = await processes.reader()
        hung.send(signal.SIGSTOP)
        before = [thing for pid, thing in await processes.handled() if pid == hung.pid]
        other = await processes.reader(other_than=hung)
        hung.send(signal.SIGCONT)
        await hung.says("lost")
        await processes.reader(other_than=hung)
        after = [thing for pid, thing in await processes.handled() if pid == hung.pid]
        # The note of the event in hand may have been on its way.
        assert after[: len(before)] == before
        assert len(after) - len(before) <= 1
        assert len(repeated(await processes.handled())) <= 1
        # And it is ready for its next turn.
        other.send(signal.SIGKILL)
        assert await processes.reader(other_than=other) is hung


async def test_reader_ends_another_takes_over_and_only_what_it_had_in_hand_comes_again(
    server: RedisServer, client: Redis
) -> None:
    in_hand: list[str] = []
    async with fleet(server, client, 3) as processes:
        for _ in range(2):
            reader = await processes.reader()
            reader.send(signal.SIGTERM)
            assert await reader.process.wait() == 0
            in_hand.append([thing for pid, thing in await processes.handled() if pid == reader.pid][-1])
        await processes.reader()
        handled = await processes.handled()
    # Its handler was at work when the subscriber closed.
    assert set(repeated(handled)) <= set(in_hand)


# --- cut off --------------------------------------------------------------------------------------------------------


async def test_reader_cut_off_another_takes_over_and_what_it_sent_meanwhile_stores_nothing(
    server: RedisServer, client: Redis, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.lease.TTL", TTL)
    monkeypatch.setattr("mainflux_events.tenure.RENEW_EVERY", TTL / 5)
    monkeypatch.setattr("mainflux_events.tenure.ASK_EVERY", TTL / 10)
    ids = await append(client, *(f"t{number}" for number in range(10)))
    seen = Recorder()
    async with (
        subscriber(proxy.url(), seen, exclusive="standby") as first,
        subscriber(server, exclusive="standby") as second,
    ):
        events, others = aiter(first), aiter(second)
        await anext(events)
        assert thing(await anext(events)) == "t1"
        await until_stored(client, ids[0])
        proxy.hold()
        assert thing(await anext(events)) == "t2"  # which commits the one before, as far as it knows
        await wait_until(lambda: not first.active)
        asking = asyncio.ensure_future(anext(events))
        assert thing(await anext(others)) == "t1"
        commits = await _commits(client)
        proxy.release(late=True)
        await wait_until(lambda: _more_commits(client, commits))
        assert await cursor(client) == ids[0], "it would have been moved on, but for the lease"
        await wait_until(lambda: seen.of("lease_lost"))
        assert not asking.done()
        assert [thing(await anext(others)) for _ in range(8)] == [f"t{number}" for number in range(2, 10)]
        await until_stored(client, ids[8])
        await second.aclose()
        assert thing(await asking) == "t9"


async def _commits(client: Redis) -> int:
    return int((await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])


async def _more_commits(client: Redis, before: int) -> bool:
    return await _commits(client) > before


async def test_reader_beside_one_that_reads_alone_is_refused_and_reads_when_that_is_gone(
    server: RedisServer, client: Redis
) -> None:
    await append(client, "t1", "t2")
    async with subscriber(server, exclusive=True) as first:
        event = await anext(first)
        with pytest.raises(SubscriberBusy):
            await subscriber(server, exclusive=True).start()
        await first.commit(event)
    async with subscriber(server, exclusive=True) as second:
        assert thing(await anext(second)) == "t2"
