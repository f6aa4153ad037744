"""The history of one publisher: accepted, acknowledged, reported and stored, held against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from redis.asyncio import Redis

from mainflux_events import Event, Hooks, Publisher, ThingRemoved
from mainflux_events.hooks import (
    DroppedDetails,
    ReconnectedDetails,
    RetryingDetails,
    SequenceLostDetails,
    UndeliveredDetails,
)

STREAM = "mainflux.things"


class Recorder(Hooks):
    """Keeps what a publisher reports, in order."""

    def __init__(self) -> None:
        self.lost_drops: list[DroppedDetails] = []
        self.lost_undelivered: list[UndeliveredDetails] = []
        self.retries: list[RetryingDetails] = []
        self.reconnects: list[ReconnectedDetails] = []
        self.sequences: list[SequenceLostDetails] = []

    def dropped(self, details: DroppedDetails) -> None:
        self.lost_drops.append(details)

    def undelivered(self, details: UndeliveredDetails) -> None:
        self.lost_undelivered.append(details)

    def retrying(self, details: RetryingDetails) -> None:
        self.retries.append(details)

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


def numbered(number: int) -> ThingRemoved:
    """An event that can be told from others."""
    return ThingRemoved(id=f"{number:07d}")


async def stored_ids(client: Redis, stream: str = STREAM) -> list[str]:
    """The IDs of the things in a stream, in its order."""
    return [fields[b"id"].decode() for _, fields in await client.xrange(stream)]


class History:
    """What was accepted, noted by the test itself, and what the publisher reported.

    Its events are numbered from `first`, so that those of several publishers can be told apart.
    """

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.accepted: list[str] = []
        self.recorder = Recorder()

    def publish(self, publisher: Publisher, count: int = 1) -> None:
        """Accept the next so many numbered events."""
        for _ in range(count):
            event = numbered(self.first + len(self.accepted))
            publisher.publish_nowait(event)
            self.accepted.append(event.id)

    def check(
        self, publisher: Publisher, stored: Iterable[str], *, duplicates: int = 0, kept: bool = True
    ) -> None:
        """Assert what is promised of a publisher that is at rest.

        `duplicates` is how many entries may be in the stream twice; `kept` says whether the server has all that it
        acknowledged.
        """
        stored = list(stored)
        stats = publisher.stats
        reported = self.recorder.dropped_ids() + self.recorder.undelivered_ids()
        assert stats.accepted == len(self.accepted)
        assert stats.accepted == (
            stats.acknowledged + stats.dropped + stats.undelivered + stats.buffered + stats.in_flight
        )
        assert (stats.buffered, stats.in_flight) == (0, 0)
        assert (stats.dropped, stats.undelivered) == (
            len(self.recorder.lost_drops),
            len(self.recorder.lost_undelivered),
        )
        assert [id for id, times in Counter(reported).items() if times > 1] == [], "reported twice"
        acknowledged = set(self.accepted) - set(reported)
        assert len(acknowledged) == stats.acknowledged == len(self.accepted) - len(reported)
        assert set(stored) - set(self.accepted) == set(), "invented"
        if kept:
            assert acknowledged - set(stored) == set(), "acknowledged and not there"
        firsts = list(dict.fromkeys(stored))
        assert firsts == sorted(firsts), "out of order"
        assert len(stored) - len(firsts) <= duplicates, "more duplicates than promised"
