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
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, stored, thing
from mainflux_events import Backoff, Subscriber
from mainflux_events.testing import RedisServer
from support import wait_until

CONSUMER = Path(__file__).parent.parent / "leased_consumer.py"
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


async def test_when_the_reader_is_killed_another_takes_over_and_only_what_it_had_in_hand_comes_again(
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


async def test_one_that_hangs_is_replaced_and_does_nothing_more_when_it_goes_on(
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


async def test_one_that_is_asked_to_end_hands_over_and_only_what_it_had_in_hand_comes_again(
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


class Cut:
    """A way to a server that can be interrupted. What is sent meanwhile arrives late, when it is mended."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Task[None]] = set()

    def interrupt(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    @contextlib.asynccontextmanager
    async def url(self, directory: Path) -> AsyncIterator[str]:
        path = directory / "socket"
        async with await asyncio.start_unix_server(self._serve, path):
            yield f"unix://{quote(str(path))}"
            self.mend()
        await asyncio.wait(self._pumps)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        await self._open.wait()
        there = await asyncio.open_unix_connection(str(self._server.socket))
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
        writer.close()


async def test_one_that_is_cut_off_is_replaced_and_what_it_sent_meanwhile_stores_nothing(
    server: RedisServer, client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.lease.TTL", TTL)
    monkeypatch.setattr("mainflux_events.tenure.RENEW_EVERY", TTL / 5)
    monkeypatch.setattr("mainflux_events.tenure.ASK_EVERY", TTL / 10)
    monkeypatch.setattr("mainflux_events.service.BACKOFF", Backoff(initial=0.02, maximum=0.1))
    ids = await append(client, *(f"t{number}" for number in range(10)))
    cut, seen = Cut(server), Recorder()
    settings: dict[str, Any] = {"start": "earliest", "exclusive": "standby"}
    async with (
        cut.url(tmp_path) as url,
        Subscriber(url, STREAM, "audit", hooks=seen, **settings) as first,
        Subscriber(server.url, STREAM, "audit", **settings) as second,
    ):
        events, others = aiter(first), aiter(second)
        await anext(events)
        assert thing(await anext(events)) == "t1"
        await wait_until(lambda: _cursor_is(client, ids[0]))
        cut.interrupt()
        assert thing(await anext(events)) == "t2"  # which commits the one before, as far as it knows
        await wait_until(lambda: not first.active)
        asking = asyncio.ensure_future(anext(events))
        assert thing(await anext(others)) == "t1"
        commits = await _commits(client)
        cut.mend()
        await wait_until(lambda: _more_commits(client, commits))
        assert await stored(client, "audit") == ids[0], "it would have been moved on, but for the lease"
        await wait_until(lambda: seen.of("lease_lost"))
        assert not asking.done()
        assert [thing(await anext(others)) for _ in range(8)] == [f"t{number}" for number in range(2, 10)]
        await wait_until(lambda: _cursor_is(client, ids[8]))
        await second.aclose()
        assert thing(await asking) == "t9"


async def _cursor_is(client: Redis, id: str) -> bool:
    return await stored(client, "audit") == id


async def _commits(client: Redis) -> int:
    return int((await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])


async def _more_commits(client: Redis, before: int) -> bool:
    return await _commits(client) > before
