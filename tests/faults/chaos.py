"""Publishers and subscribers go on while faults from a seed befall them; afterwards the histories have to add up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from redis.exceptions import RedisError

from consuming import quick_subscribers
from faults.injections import OF_NETWORK, OF_SERVER, PUBLISHING, SECRET, SUBSCRIBING, USERS, Fault, Scene
from faults.kit import Mode, Tally, stored
from faults.proxy import Proxy, proxy_to
from histories import STREAM, History, Readings
from mainflux_events import (
    AccessRefused,
    BufferFull,
    Commit,
    ConfigError,
    Publisher,
    PublisherClosed,
    Subscriber,
)
from mainflux_events.cursor import padded
from mainflux_events.hooks import logger
from mainflux_events.testing import RedisServer, redis_server
from support import no_clients_left, wait_until

# Seconds that everything may take to be delivered once all faults are over.
HEALING: Final = 30.0

# What the events of the publisher begin with that may lose none.
STEADY: Final = "steady-"


class Chaos:
    """One run.

    Args:
        seed: what decides on everything but the timing.
        seconds: how long faults happen.
        mode: how the publishers append.
    """

    def __init__(self, seed: int, seconds: float, mode: Mode = "default") -> None:
        self._seed = seed
        self._seconds = seconds
        self._idempotent = mode == "idempotent"
        self._ends = 0.0
        self._healed = asyncio.Event()
        self._histories: list[tuple[History, Publisher]] = []
        self._readings: dict[str, Readings] = {}
        self._over = False
        self.tally = Tally()

    async def run(self) -> Tally:
        """Do it, and give what happened."""
        async with redis_server(aof=True, config=USERS) as server:
            with quick_subscribers(patience=0.3), self._watched():
                async with proxy_to(server) as publishing, proxy_to(server) as subscribing:
                    entries = await self._among(server, publishing, subscribing)
                await no_clients_left(server)
        self._judge(entries)
        return self.tally

    async def _among(self, server: RedisServer, publishing: Proxy, subscribing: Proxy) -> dict[str, str]:
        """Let everything happen. Gives what is stored in the end."""
        self._ends = time.monotonic() + self._seconds
        to_publish = publishing.url(f"{PUBLISHING}:{SECRET}")
        to_subscribe = subscribing.url(f"{SUBSCRIBING}:{SECRET}")
        async with asyncio.TaskGroup() as group:
            for name in ("audit", "billing"):
                group.create_task(self._subscriber(name, to_subscribe, server))
            cursors = group.create_task(self._watch_cursors(server))
            async with asyncio.TaskGroup() as publishers:
                publishers.create_task(self._steady(to_publish))
                publishers.create_task(self._restless(to_publish))
                async with asyncio.TaskGroup() as faults:
                    for kind, choice in (("server", OF_SERVER), ("network", OF_NETWORK)):
                        scene = Scene(server, [publishing, subscribing], self._random(kind))
                        faults.create_task(self._befall(choice, scene))
                self._healed.set()
            await _no_clients_of(server, PUBLISHING)
            entries = await stored(server)
            await self._until_read(server, list(entries)[-1])
            self._over = True
            cursors.cancel()
        return entries

    def _random(self, purpose: str) -> Random:
        return Random(f"{self._seed} {purpose}")

    async def _befall(self, faults: dict[str, Fault], scene: Scene) -> None:
        """One fault after another."""
        while time.monotonic() < self._ends:
            name = scene.random.choice(sorted(faults))
            self.tally.faults[name] += 1
            async with faults[name](scene):
                await asyncio.sleep(scene.random.uniform(0.0, 0.6))
            await asyncio.sleep(scene.random.uniform(0.0, 0.3))

    # --- publishing ---

    async def _steady(self, url: str) -> None:
        """One publisher, which has room for whatever there is, and may lose nothing."""
        history = History(STEADY, idempotent=self._idempotent)
        publisher = await self._started(history, url)
        async with asyncio.TaskGroup() as sends:
            await self._publish(history, publisher, self._random("steady"), self._ends, sends)
            await self._healed.wait()
            await publisher.flush(HEALING)
            await publisher.aclose()

    async def _restless(self, url: str) -> None:
        """One publisher after another, with little room, and little time to close."""
        random = self._random("restless")
        while time.monotonic() < self._ends:
            history = History(f"restless{len(self._histories)}-", idempotent=self._idempotent)
            settings = {
                "buffer_size": random.choice([100, 1000]),
                "overflow": random.choice(["drop_oldest", "drop_newest", "raise"]),
                "close_timeout": random.choice([0.0, 0.1, 1.0]),
            }
            publisher = await self._started(history, url, **settings)
            ends = min(self._ends, time.monotonic() + random.uniform(0.1, 2.0))
            async with asyncio.TaskGroup() as sends:
                await self._publish(history, publisher, random, ends, sends)
                await publisher.aclose()

    async def _started(self, history: History, url: str, **settings: Any) -> Publisher:
        """A publisher that is started, as soon as the server does not refuse it for good."""
        while True:
            publisher = history.publisher(url, **settings)
            try:
                await publisher.start()
            except (AccessRefused, ConfigError):
                await asyncio.sleep(0.02)
            else:
                self._histories.append((history, publisher))
                return publisher

    async def _publish(
        self, history: History, publisher: Publisher, random: Random, ends: float, sends: asyncio.TaskGroup
    ) -> None:
        while time.monotonic() < ends:
            with contextlib.suppress(BufferFull):
                # Now and then enough for a full batch.
                history.publish(publisher, random.randint(1, 40) if random.random() < 0.99 else 2500)
            if random.random() < 0.1:
                sends.create_task(self._send(history, publisher))
            await asyncio.sleep(random.choice([0.0, 0.005, 0.02]))

    async def _send(self, history: History, publisher: Publisher) -> None:
        with contextlib.suppress(BufferFull, PublisherClosed):
            await history.send(publisher)

    # --- subscribing ---

    async def _subscriber(self, name: str, url: str, server: RedisServer) -> None:
        """One subscriber after another of one name."""
        random = self._random(name)
        readings = self._readings[name] = Readings()
        while not self._over:
            policy = random.choice([Commit.each(), Commit.every(events=10, seconds=0.05)])
            subscriber = Subscriber(url, STREAM, name, start="earliest", commit=policy)
            behind = await _cursor(server, name) or ""
            try:
                await subscriber.start()
            except (AccessRefused, ConfigError):
                await asyncio.sleep(0.02)
                continue
            for _ in range(random.randint(1, 5)):
                readings.begin(behind)
                finished: list[str] = []
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0.05, 2.0)):
                        await self._consume(subscriber, readings, random, finished)
                # What the subscriber before it had finished counts only as far as it could be stored.
                behind = finished[-1] if finished else behind
            await subscriber.aclose()

    async def _consume(
        self, subscriber: Subscriber, readings: Readings, random: Random, finished: list[str]
    ) -> None:
        """A loop that is left after some events, or when its time is over. Adds what it has finished."""
        awaits = random.random() < 0.5
        left = random.randint(1, 3000)
        async for event in subscriber:
            readings.note(event.id)
            if awaits:
                await asyncio.sleep(0)
            left -= 1
            if not left:
                break
            readings.finished = event.id  # by asking for the next, which comes now
            finished.append(event.id)

    async def _until_read(self, server: RedisServer, last: str) -> None:
        """Wait until the cursors are at the last entry."""

        async def read() -> bool:
            return {await _cursor(server, name) for name in self._readings} == {last}

        await wait_until(read, HEALING)

    # --- watching and judging ---

    def _expect(self, holds: object, otherwise: str) -> None:
        if not holds:
            self.tally.violations.append(otherwise)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Notice secrets in the log, exceptions that nobody saw, and tasks that are left."""
        log, loop = _Log(), asyncio.get_running_loop()
        handler_before = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: self._expect(False, f"unseen: {context}"))
        logger.addHandler(log)
        logger.propagate = False  # a failure has thousands of lines to show otherwise
        try:
            yield
        finally:
            logger.propagate = True
            logger.removeHandler(log)
            loop.set_exception_handler(handler_before)
        self._expect(SECRET not in log.text, "a secret is in the log")
        left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("mainflux")]
        self._expect(not left, f"tasks are left: {left}")

    async def _watch_cursors(self, server: RedisServer) -> None:
        """Look again and again whether a cursor has moved back, or past what is finished."""
        seen: dict[str, str] = {}
        while True:
            for name, readings in self._readings.items():
                found = await _cursor(server, name)
                if found is not None:
                    before, seen[name] = seen.get(name, ""), found
                    self._expect(padded(found) >= padded(before), f"{name} moved back: {before} to {found}")
                    self._expect(padded(found) <= padded(readings.finished), f"{name} is ahead, at {found}")
            await asyncio.sleep(0.01)

    def _judge(self, entries: dict[str, str]) -> None:
        """Hold everything against what is stored."""
        counts = self.tally.counts
        for history, publisher in self._histories:
            self.tally.add(history, publisher, entries)
            if history.name == STEADY:
                lost = publisher.stats.dropped + publisher.stats.undelivered
                self._expect(not lost, f"{lost} lost in spite of room and time")
        for name, readings in self._readings.items():
            self.tally.violations += [f"{name}: {each}" for each in readings.violations(list(entries))]
            counts["handed out"] += sum(map(len, readings.loops))
            counts["handed out again"] += readings.again
            counts["never handed out"] += len(set(entries) - {id for loop in readings.loops for id in loop})


class _Log(logging.Handler):
    """Keeps what is logged, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + "\n"


async def _cursor(server: RedisServer, name: str) -> str | None:
    """What is stored as the cursor of a subscriber, "" for nothing; None where the server cannot tell."""
    try:
        found = await server.command("GET", f"mainflux:cursor:{name}:{STREAM}", timeout=0.5)
    except (OSError, TimeoutError, RedisError):
        return None
    return "" if found is None else str(found.decode())


async def _no_clients_of(server: RedisServer, user: str) -> None:
    """Wait until nothing more can arrive that a user has sent."""

    async def gone() -> bool:
        return f"user={user} ".encode() not in await server.command("CLIENT", "LIST")

    await wait_until(gone)
