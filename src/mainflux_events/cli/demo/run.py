"""The run itself: one task publishes, two named subscribers consume in others, and one of these is replaced on the way.

No two events of a run happened at the same time, so their `occurred_at` tells them apart: what was lost, came twice or
came out of order shows when the times of what was handled are held against those of what was published.
"""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

import anyio
import msgspec

from ... import Event, EventsError, Lag, Publisher, Subscriber, acting_as
from ...cursor import cursor_key
from .traffic import Platform

# The second one is stopped and replaced by a new one of the same name.
NAMES: Final = ("search", "audit")

# When: after these parts of the events were published.
STOPPED_AT, REPLACED_AT = 0.4, 0.6

# How long nothing may come, once all is published, before what is missing is called lost. In seconds: more than the
# longest wait of a subscriber before it tries again to reach the server.
QUIET: Final = 40.0

# The publisher looks at the clock after so many events.
STRIDE: Final = 50


class Verdict(msgspec.Struct, frozen=True):
    """What one subscriber's events come to, held against those published.

    Attributes:
        lost: published and never handled.
        twice: handled more than once.
        foreign: handled and never published, at least not by this run.
        same: whether there are as many of each operation as were published.
        in_order: whether each was handled for the first time after those that were published before it.
    """

    lost: int
    twice: int
    foreign: int
    same: bool
    in_order: bool

    @property
    def agrees(self) -> bool:
        """Whether the counts agree. That an event comes twice is within what is promised."""
        return self.same and self.lost == self.foreign == 0 and self.in_order


class Tally:
    """The events that one side has seen.

    Attributes:
        operations: of each time at which an event happened, what happened, in the order of the first sight.
        twice: how many were seen again.
    """

    def __init__(self) -> None:
        self.operations: dict[datetime | None, str] = {}
        self.twice: int = 0
        self._began = self._last = 0.0

    def __len__(self) -> int:
        return len(self.operations)

    def note(self, event: Event) -> None:
        """Count an event."""
        self._last = anyio.current_time()
        if not self.operations:
            self._began = self._last
        if event.occurred_at in self.operations:
            self.twice += 1
        else:
            self.operations[event.occurred_at] = event.action.operation

    @property
    def counts(self) -> Counter[str]:
        """How many there are of each operation, each counted once."""
        return Counter(self.operations.values())

    @property
    def rate(self) -> float:
        """Events a second, from the first to the last."""
        return len(self) / max(self._last - self._began, 0.001)

    def quiet_since(self, time: float) -> float:
        """Seconds since the last event, or since this time of `anyio.current_time`, whichever was later."""
        return anyio.current_time() - max(self._last, time)

    def against(self, published: Tally) -> Verdict:
        """Hold what was handled against what was published."""
        ours = [time for time in self.operations if time in published.operations]
        return Verdict(
            lost=len(published) - len(ours),
            twice=self.twice,
            foreign=len(self) - len(ours),
            same=self.counts == published.counts,
            in_order=all(earlier < later for earlier, later in itertools.pairwise(ours) if earlier and later),
        )


class Consumer:
    """One name, the subscriber that goes by it at the moment, and what all of them have handled.

    Attributes:
        key: where the cursor is stored.
        state: "consuming", "stopped" or "finished".
        messages: what became of its subscribers, in words.
    """

    def __init__(self, url: str, stream: str, name: str) -> None:
        self.name = name
        self.key: str = cursor_key(name, stream)
        self.tally: Tally = Tally()
        self.state: str = "consuming"
        self.messages: list[str] = []
        self._address = (url, stream, name)
        self._last_id = ""
        self._replaced = False
        self.subscriber: Subscriber = Subscriber(*self._address)

    def handle(self, event: Event) -> None:
        """The handler, as an application would have one."""
        self.tally.note(event)
        self._last_id = event.id
        if self._replaced:
            self._replaced = False
            self.messages.append(f"{self.name} goes on, as a new subscriber of that name, with {event.id}")

    async def stop(self) -> None:
        """Close the subscriber, as when the application ends."""
        self.state = "stopped"
        await self.subscriber.aclose()
        self.messages.append(
            f"{self.name} was stopped after {len(self.tally):,} events, the last of them {self._last_id}"
        )

    def replace(self) -> None:
        """Make a new subscriber of the same name, as when the application begins again."""
        self.state, self._replaced = "consuming", True
        self.subscriber = Subscriber(*self._address)

    async def lag(self) -> Lag | None:
        """How far it is behind; None while it is stopped, or while nobody can tell."""
        try:
            [behind] = (await self.subscriber.lag()).values()
        except EventsError:
            return None
        return None if self.state == "stopped" else behind


class Run:
    """Everything of one run, to be watched while it lasts.

    Args:
        url: the server.
        stream: where to publish; nobody else may use it.
        events: how many.
        rate: how many a second; 0 for as many as it takes.
        seed: the same seed gives the same events, but for their times.

    Raises:
        ConfigError: the URL is none.
    """

    def __init__(self, url: str, stream: str, *, events: int, rate: int, seed: int) -> None:
        self.events = events
        self.published: Tally = Tally()
        # Nothing is trimmed away while a subscriber is stopped, and nothing dropped where the server is slow.
        self.publisher: Publisher = Publisher(url, stream, max_len=None, overflow="wait")
        self.consumers: list[Consumer] = [Consumer(url, stream, name) for name in NAMES]
        self.keys: list[str] = [stream, *(consumer.key for consumer in self.consumers)]
        self._rate = rate
        self._platform = Platform(Random(seed), datetime.now(UTC) - timedelta(days=1))  # noqa: S311 - no secret
        self._stop, self._replace, self._acknowledged = anyio.Event(), anyio.Event(), anyio.Event()

    async def __call__(self) -> None:
        """Publish all, and return when both have handled all of it, or nothing more comes."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.publisher.run)
            for consumer in self.consumers:
                await tasks.start(consumer.subscriber.run, consumer.handle)
            tasks.start_soon(self._publish)

            replaced = self.consumers[1]
            await self._stop.wait()
            await replaced.stop()
            await self._replace.wait()
            replaced.replace()
            await tasks.start(replaced.subscriber.run, replaced.handle)

            await self._acknowledged.wait()
            for consumer in self.consumers:
                await self._finished(consumer)
            tasks.cancel_scope.cancel()

    async def _publish(self) -> None:
        stopped, replaced = int(self.events * STOPPED_AT), int(self.events * REPLACED_AT)
        began = anyio.current_time()
        for number, (identity, event) in enumerate(itertools.islice(self._platform.events(), self.events)):
            if number == stopped:
                self._stop.set()
            if number == replaced:
                self._replace.set()
            with acting_as(identity):
                await self.publisher.publish(event)
            self.published.note(event)
            if self._rate and not number % STRIDE:
                await anyio.sleep(max(0.0, began + number / self._rate - anyio.current_time()))
        await self.publisher.flush()
        self._acknowledged.set()

    async def _finished(self, consumer: Consumer) -> None:
        began = anyio.current_time()
        while len(consumer.tally) < self.events and consumer.tally.quiet_since(began) < QUIET:
            behind = await consumer.lag()
            if behind is not None and behind.entries == 0:
                break
            await anyio.sleep(0.05)
        consumer.state = "finished"

    @property
    def messages(self) -> list[str]:
        """What became of the subscribers, in words."""
        return [message for consumer in self.consumers for message in consumer.messages]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What became of the events at each subscriber, by its name."""
        return {consumer.name: consumer.tally.against(self.published) for consumer in self.consumers}

    @property
    def agrees(self) -> bool:
        """Whether all that was published was acknowledged, and handled by both."""
        acknowledged = self.publisher.stats.acknowledged
        return acknowledged == len(self.published) and all(each.agrees for each in self.verdicts.values())
