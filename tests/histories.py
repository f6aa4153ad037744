"""Histories: what publishers accepted, acknowledged and reported, and what is read back, held against each other.

`violations` is the checker, of what was published; `Readings` the one of what subscribers were handed, `KeyedReadings`
that of what was handled of partitions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from redis.asyncio import Redis

from mainflux_events import Backoff, Event, Hooks, Publisher, ThingRemoved, ThingUpdated, Undelivered
from mainflux_events.errors import BufferFull, PublisherClosed
from mainflux_events.hooks import (
    DroppedDetails,
    ReconnectedDetails,
    RetryingDetails,
    SequenceLostDetails,
    UndeliveredDetails,
)

STREAM = "mainflux.things"

# What an attempt failed with that cannot have appended anything: the server said no, in a word of capitals, or there
# was no connection.
_NOT_SENT = re.compile(r"[A-Z]+ |redis at |the master |the cluster ")


class Recorder(Hooks):
    """Keeps what a publisher reports, in order.

    Attributes:
        publisher: whose reports they are.
        at_risk: how many events were in flight when connections failed, all together: so many may be there again.
    """

    def __init__(self) -> None:
        self.publisher: Publisher | None = None
        self.lost_drops: list[DroppedDetails] = []
        self.lost_undelivered: list[UndeliveredDetails] = []
        self.retries: list[RetryingDetails] = []
        self.reconnects: list[ReconnectedDetails] = []
        self.sequences: list[SequenceLostDetails] = []
        self.at_risk = 0

    def dropped(self, details: DroppedDetails) -> None:
        self.lost_drops.append(details)

    def undelivered(self, details: UndeliveredDetails) -> None:
        self.lost_undelivered.append(details)

    def retrying(self, details: RetryingDetails) -> None:
        self.retries.append(details)
        if self.publisher is not None and not _NOT_SENT.match(details.reason):
            self.at_risk += self.publisher.stats.in_flight

    def reconnected(self, details: ReconnectedDetails) -> None:
        self.reconnects.append(details)

    def sequence_lost(self, details: SequenceLostDetails) -> None:
        self.sequences.append(details)

    def dropped_ids(self) -> list[str]:
        return [thing_id(details.event()) for details in self.lost_drops]

    def undelivered_ids(self) -> list[str]:
        return [thing_id(details.event()) for details in self.lost_undelivered]


def thing_id(event: Event) -> str:
    """The ID of the thing that a numbered event is about."""
    assert isinstance(event.action, ThingRemoved)
    return event.action.id


def numbered(number: int, publisher: str = "") -> ThingRemoved:
    """An event that can be told from others."""
    return ThingRemoved(id=f"{publisher}{number:07d}")


async def stored_entries(client: Redis, stream: str = STREAM) -> dict[str, str]:
    """What is in a stream, in its order: the things, by the IDs of the entries."""
    entries: dict[str, str] = {}
    after = "-"
    while page := await client.xrange(stream, min=after, count=5000):
        entries |= {id.decode(): fields[b"id"].decode() for id, fields in page}
        after = f"({page[-1][0].decode()}"
    return entries


async def stored_ids(client: Redis, stream: str = STREAM) -> list[str]:
    """The IDs of the things in a stream, in its order."""
    return list((await stored_entries(client, stream)).values())


@dataclass(frozen=True)
class Account:
    """What is known of a publisher at rest.

    Attributes:
        accepted: the events, in their order.
        acknowledged: how many of them are.
        dropped, undelivered: those that were reported as such.
        sent: those that `send` has returned for, with the ID of the entry that it gave.
        failed: those that `send` has raised Undelivered for.
        duplicates: how many entries may be there once more.
        kept: whether the server has all that it ever acknowledged.
    """

    accepted: Sequence[str]
    acknowledged: int
    dropped: Sequence[str] = ()
    undelivered: Sequence[str] = ()
    sent: Mapping[str, str] = field(default_factory=dict)
    failed: Sequence[str] = ()
    duplicates: int = 0
    kept: bool = True


def missing(account: Account, stored: Mapping[str, str]) -> set[str]:
    """What is acknowledged and not there."""
    return set(account.accepted) - {*account.dropped, *account.undelivered} - set(stored.values())


def violations(account: Account, stored: Mapping[str, str]) -> list[str]:
    """What is wrong with the history of one publisher.

    Args:
        account: what it said.
        stored: what of its events is in the stream, in the order there: by the IDs of the entries.
    """
    return list(_violations(account, stored))


def _violations(account: Account, stored: Mapping[str, str]) -> Iterator[str]:
    accepted, there = set(account.accepted), set(stored.values())
    dropped, reported = set(account.dropped), [*account.dropped, *account.undelivered]
    acknowledged = accepted - set(reported)
    yield from _each("reported twice", (id for id, times in Counter(reported).items() if times > 1))
    yield from _each("reported and never accepted", set(reported) - accepted)
    yield from _each("stored and never accepted", there - accepted)
    yield from _each("dropped and stored", dropped & there)
    yield from _each("sent and reported as lost", account.sent.keys() & set(reported))
    yield from _each("undelivered to its sender and not reported", set(account.failed) - set(reported))
    if len(acknowledged) != account.acknowledged:
        yield f"{len(acknowledged)} were accepted and not reported, but {account.acknowledged} are acknowledged"
    if account.kept:
        yield from _each("acknowledged and not stored", missing(account, stored))
        yield from _each(
            "sent and not where its sender was told",
            (thing for thing, id in account.sent.items() if stored.get(id) != thing),
        )
    firsts = list(dict.fromkeys(stored.values()))
    yield from _each("out of order", _disordered([id for id in account.accepted if id in there], firsts))
    again = len(stored) - len(firsts)
    if again > account.duplicates:
        yield f"{again} stored again, {account.duplicates} at most are promised"


def _disordered(wanted: Sequence[str], found: Sequence[str]) -> list[str]:
    return [f"{there} for {here}" for here, there in zip(wanted, found, strict=False) if here != there]


def _each(what: str, ids: Iterable[str]) -> Iterator[str]:
    """One line for all of them."""
    if found := sorted(ids):
        yield f"{len(found)} {what}: {', '.join(found[:5])}{', …' if len(found) > 5 else ''}"


class History:
    """The history of one publisher: what was accepted, noted by the test itself, and what the publisher reported.

    Args:
        name: what the events' IDs begin with, where several publish to one stream.
        idempotent: whether the publisher promises that nothing is there twice.
    """

    def __init__(self, name: str = "", *, idempotent: bool = False) -> None:
        self.name = name
        self.idempotent = idempotent
        self.accepted: list[str] = []
        self.sent: dict[str, str] = {}
        self.failed: list[str] = []
        self.recorder = Recorder()

    def publisher(self, url: str, **settings: Any) -> Publisher:
        """The publisher, whose reports are kept; one that is quick to try again, if nothing else is said."""
        defaults: dict[str, Any] = {
            "backoff": Backoff(initial=0.01, maximum=0.05),
            "attempt_timeout": 0.3,
            "buffer_size": 200_000,
            "max_len": None,
        }
        if self.idempotent:
            defaults["idempotent"] = True
        publisher = Publisher(url, STREAM, hooks=self.recorder, **(defaults | settings))
        self.recorder.publisher = publisher
        return publisher

    def next(self) -> ThingRemoved:
        """The event to publish next. It has to be noted in `accepted` when it is."""
        return numbered(len(self.accepted), self.name)

    def publish(self, publisher: Publisher, count: int = 1) -> None:
        """Accept the next so many numbered events."""
        for _ in range(count):
            event = self.next()
            publisher.publish_nowait(event)
            self.accepted.append(event.id)

    async def send(self, publisher: Publisher) -> None:
        """Accept the next event, and wait for what becomes of it."""
        event = self.next()
        # Sending accepts before it awaits anything, where there is no waiting for room.
        self.accepted.append(event.id)
        try:
            self.sent[event.id] = await publisher.send(event)
        except Undelivered:
            self.failed.append(event.id)
        except (BufferFull, PublisherClosed):
            self.accepted.remove(event.id)
            raise

    def account(self, publisher: Publisher, *, duplicates: int | None = None, kept: bool = True) -> Account:
        """What is known of a publisher that is at rest; as `check`."""
        if duplicates is None:
            duplicates = 0 if self.idempotent else self.recorder.at_risk
        return Account(
            accepted=self.accepted,
            acknowledged=publisher.stats.acknowledged,
            dropped=self.recorder.dropped_ids(),
            undelivered=self.recorder.undelivered_ids(),
            sent=self.sent,
            failed=self.failed,
            duplicates=duplicates,
            kept=kept,
        )

    def own(self, stored: Mapping[str, str]) -> dict[str, str]:
        """What of a stream is of this publisher."""
        return {id: thing for id, thing in stored.items() if thing.startswith(self.name)}

    def violations(
        self,
        publisher: Publisher,
        stored: Mapping[str, str] | Iterable[str],
        *,
        duplicates: int | None = None,
        kept: bool = True,
    ) -> list[str]:
        """What is wrong with the history of a publisher that is at rest; as `check`."""
        if not isinstance(stored, Mapping):
            stored = {str(place): id for place, id in enumerate(stored)}
        stats, account = publisher.stats, self.account(publisher, duplicates=duplicates, kept=kept)
        found = violations(account, self.own(stored))
        wanted = (len(self.accepted), len(account.dropped), len(account.undelivered), 0, 0)
        counted = (stats.accepted, stats.dropped, stats.undelivered, stats.buffered, stats.in_flight)
        if counted != wanted:
            found.append(f"accepted, dropped, undelivered, buffered, in flight: {counted}, not {wanted}")
        return found

    def check(
        self,
        publisher: Publisher,
        stored: Mapping[str, str] | Iterable[str],
        *,
        duplicates: int | None = None,
        kept: bool = True,
    ) -> None:
        """Assert what is promised of a publisher that is at rest.

        Args:
            publisher: the publisher.
            stored: the things in the stream, in order; by the IDs of the entries where something was sent.
            duplicates: how many entries may be there again; what is promised if nothing is said.
            kept: whether the server has all that it acknowledged.
        """
        found = self.violations(publisher, stored, duplicates=duplicates, kept=kept)
        assert not found, "\n".join(found)


class Readings:
    """What the subscribers of one name were handed, in one loop over the events after another.

    Attributes:
        loops: the IDs of the entries that each was handed, in order.
        finished: the last entry that was finished; to be set by the test.
    """

    def __init__(self) -> None:
        self.loops: list[list[str]] = []
        self.finished = "0-0"
        self._behind: list[str] = []

    def begin(self, behind: str = "") -> None:
        """Another loop begins: behind this entry, where that is known."""
        self.loops.append([])
        self._behind.append(behind)

    def note(self, id: str) -> None:
        """It is handed the event of this entry."""
        self.loops[-1].append(id)

    @property
    def again(self) -> int:
        """How many times an entry was handed out that had been before."""
        return sum(map(len, self.loops)) - len({id for loop in self.loops for id in loop})

    def violations(self, stored: Sequence[str]) -> list[str]:
        """What is wrong, once the end of the stream is reached.

        Args:
            stored: the IDs of the entries, from the first one on that was to be handed out.
        """
        return list(self._violations(stored))

    def _violations(self, stored: Sequence[str]) -> Iterator[str]:
        places = {id: place for place, id in enumerate(stored)}
        reached = 0  # the place behind the last one that was handed out
        for number, (loop, behind) in enumerate(zip(self.loops, self._behind, strict=True)):
            yield from _each(
                f"handed to loop {number} and not stored", (id for id in loop if id not in places)
            )
            steps = [places[id] for id in loop if id in places]
            for before, after in pairwise(steps):
                if after <= before:
                    yield f"loop {number} was handed {stored[after]} after {stored[before]}"
                elif after > before + 1:
                    yield f"loop {number} passed over {stored[before + 1]} to {stored[after - 1]}"
            if steps and steps[0] > reached:
                yield f"passed over before loop {number}: {stored[reached]} to {stored[steps[0] - 1]}"
            if steps and steps[0] <= places.get(behind, -1):
                yield f"loop {number} was handed {stored[steps[0]]} again, though {behind} was finished"
            reached = max([reached, *(step + 1 for step in steps)])
        if reached < len(stored):
            yield f"{len(stored) - reached} never handed out, from {stored[reached]} on"


class KeyedReadings:
    """Events that have to stay in order by key: what was published, and what was handled, wherever that was.

    Attributes:
        published: how many events of each key; they are numbered from 1.
        handled: key and number of each event whose handling began, in the order of time.
    """

    def __init__(self) -> None:
        self.published: Counter[str] = Counter()
        self.handled: list[tuple[str, int]] = []

    def next(self, key: str) -> ThingUpdated:
        """The next event of a key."""
        self.published[key] += 1
        return ThingUpdated(id=key, profile_id=str(self.published[key]))

    def note(self, event: Event) -> None:
        """The handling of an event begins."""
        assert isinstance(event.action, ThingUpdated)
        self.handled.append((event.action.id, int(event.action.profile_id)))

    @property
    def complete(self) -> bool:
        """Whether each event was handled, at least once."""
        return len(set(self.handled)) == self.published.total()

    @property
    def again(self) -> int:
        """How many times an event was handled that had been before."""
        return len(self.handled) - len(set(self.handled))

    def violations(self) -> list[str]:
        """What is wrong: one that was handled before all that precede it of its key, or never."""
        found = []
        reached: Counter[str] = Counter()
        for key, number in self.handled:
            if number > reached[key] + 1:
                found.append(f"{key}: {number} was handled when {reached[key] + 1} never had been")
            reached[key] = max(reached[key], number)
        for key, published in self.published.items():
            if reached[key] != published:
                found.append(
                    f"{key}: {published} were published, and {reached[key]} was the last that was handled"
                )
        return found
