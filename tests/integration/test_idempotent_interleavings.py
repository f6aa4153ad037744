"""The scripts and the decisions of idempotent appending, on a real server, in thousands of random orders of events.

What a publisher sends is delivered, lost, or held and delivered long after; answers are lost; the server runs out of
memory, forgets its scripts, the sequence, everything, or falls back to what it had before.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import hiredis
import pytest
from redis.asyncio import Redis

from histories import STREAM, numbered, thing_id
from mainflux_events import wire
from mainflux_events.idempotent import Numbered
from mainflux_events.refusals import Refusal
from mainflux_events.testing import RedisServer

STEPS = 120
SEEDS = 100


class Run:
    """One publisher without its connections: what it sends goes where the test wants, and when."""

    def __init__(self, server: RedisServer, client: Redis, seed: int) -> None:
        self.server = server
        self.client = client
        self.seed = f"seed {seed}"
        self.random = random.Random(seed)
        self.appender = Numbered(STREAM, None)
        self.count = 0
        self.in_flight: list[bytes] = []
        self.acknowledged: dict[str, bytes] = {}
        self.unknown: list[str] = []
        # What earlier connections have sent, and is still on its way: one command each.
        self.held: list[bytes] = []
        # What the server once had, and how much it has lost since.
        self.before: tuple[bytes | None, bytes | None] = (None, None)
        self.setbacks = 0
        self.fallbacks = 0
        self.reports = 0

    async def __aenter__(self) -> Run:
        await self.client.flushall()
        self.reader, self.writer = await asyncio.open_unix_connection(self.server.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def deliver(self, payload: bytes) -> Any:
        """Give the server one whole command, and read its answer."""
        self.writer.write(payload)
        parser = hiredis.Reader(replyError=Refusal)
        while (reply := parser.gets()) is False:
            parser.feed(await self.reader.read(65536))
        return reply

    async def attempt(self) -> None:
        """Send what is due; it is answered, or not, or not even delivered yet."""
        if not self.in_flight:
            for _ in range(self.random.randint(1, 4)):
                self.in_flight.append(wire.encode(numbered(self.count), self.appender.heads))
                self.count += 1
        payload, _ = self.appender.payload(self.in_flight)
        fate = self.random.choice(["answered", "answered", "answered", "unanswered", "held"])
        if fate == "held":
            self.held.append(payload)
        else:
            reply = await self.deliver(payload)
        self.take([reply] if fate == "answered" else [])
        if fate != "answered":
            self.appender.connected()

    def take(self, replies: list[Any]) -> None:
        found = self.appender.verdict(len(self.in_flight), replies)
        for id in found.acknowledged:
            self.acknowledged[self.name(self.in_flight.pop(0))] = id
        if found.lost is not None:
            self.reports += 1
            for _ in range(found.lost.unknown):
                self.unknown.append(self.name(self.in_flight.pop(0)))

    def name(self, packed: bytes) -> str:
        return thing_id(wire.decode(self.appender.heads.fields_of(packed)))

    async def trouble(self) -> None:
        kinds = [self.late] * 6 + [self.memory, self.forget_scripts, self.keep] * 2
        await self.random.choice([*kinds, self.fall_back, self.lose_sequence, self.lose_all])()

    async def late(self) -> None:
        if self.held:
            await self.deliver(self.held.pop(self.random.randrange(len(self.held))))

    async def memory(self) -> None:
        await self.client.config_set("maxmemory", self.random.choice([0, 1]))

    async def forget_scripts(self) -> None:
        await self.client.script_flush()

    async def keep(self) -> None:
        self.before = (await self.client.dump(STREAM), await self.client.dump(self.appender.key))

    async def fall_back(self) -> None:
        """As after a failover to a replica that was behind."""
        self.fallbacks += 1
        await self.client.config_set("maxmemory", 0)
        await self.lose_all()
        for key, value in zip((STREAM, self.appender.key), self.before, strict=True):
            if value is not None:
                await self.client.restore(key, 100_000, value)

    async def lose_sequence(self) -> None:
        self.setbacks += await self.client.delete(self.appender.key)

    async def lose_all(self) -> None:
        self.setbacks += await self.client.exists(STREAM, self.appender.key)
        await self.client.flushall()

    async def stored(self) -> dict[str, bytes]:
        """The things in the stream, in its order, each with the ID of its entry."""
        entries = await self.client.xrange(STREAM)
        names = [fields[b"id"].decode() for _, fields in entries]
        assert [name for name, times in Counter(names).items() if times > 1] == [], f"{self.seed}: twice"
        return dict(zip(names, (id for id, _ in entries), strict=True))

    async def check(self) -> None:
        stored = await self.stored()
        assert list(stored) == sorted(stored), f"{self.seed}: out of order"
        if not self.fallbacks:  # after one, what is held may be appended in place of what was acknowledged
            wrong = [name for name, id in stored.items() if self.acknowledged.get(name, id) != id]
            assert wrong == [], f"{self.seed}: acknowledged with another ID"
        if not self.setbacks:
            assert self.acknowledged.keys() <= stored.keys(), f"{self.seed}: acknowledged and not there"
            assert (self.reports, self.unknown) == (0, []), f"{self.seed}: reported, and nothing was lost"

    async def settle(self) -> None:
        """With no more troubles, bring the last batch to its end, and then whatever is still on its way."""
        await self.client.config_set("maxmemory", 0)
        for _ in range(5):
            if self.in_flight:
                payload, _ = self.appender.payload(self.in_flight)
                self.take([await self.deliver(payload)])
        while self.held:
            await self.late()


@pytest.mark.parametrize("begin", range(0, SEEDS, 25))
async def test_no_order_of_events_appends_one_twice_or_loses_one_without_a_report(
    fresh_server: RedisServer, begin: int
) -> None:
    totals: Counter[str] = Counter()
    async with Redis.from_url(fresh_server.url) as client:
        for seed in range(begin, begin + 25):
            async with Run(fresh_server, client, seed) as run:
                for _ in range(STEPS):
                    await (run.attempt() if run.random.random() < 0.6 else run.trouble())
                    await run.check()
                await run.settle()
                await run.stored()
            assert run.in_flight == [], run.seed
            assert len(run.acknowledged) + len(run.unknown) == run.count, run.seed
            totals += Counter(
                acknowledged=len(run.acknowledged), unknown=len(run.unknown), reports=run.reports
            )
    assert min(totals["acknowledged"], totals["unknown"], totals["reports"]) > 0, totals
