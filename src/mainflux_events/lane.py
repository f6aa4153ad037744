"""The way of events to one stream: encoded, buffered, drained, and accounted for. A publisher has one, or several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from . import wire
from .batch import Appender, Transactions
from .buffer import Buffer, Overflow
from .drain import LEAST_ARGUMENT_LIMIT, Drain
from .errors import ConfigError, EncodeError
from .events import Action, Event
from .health import PublisherHealth, worst
from .hooks import Observers, logger
from .ledger import Ledger, settled
from .link import Disconnected, Link, Unreachable
from .nodes import Nodes, Way
from .partitions import Agreement, Key, Partitioner, partition_streams
from .policies import Backoff
from .stats import PublisherStats
from .tasks import conclude, together
from .tracing import encoder

# Where the server is far away, callers are quicker than the drain, and turns of the event loop alone do not slow them
# down enough. So while the buffer is nearly full they pause for so long. But they do not wait for a server that has
# acknowledged nothing for a while. In seconds.
PAUSE: Final = 0.001
PROGRESS: Final = 0.25


class Lane:
    """What a publisher has of each stream.

    Args:
        link: where its connections come from.
        stream, max_len, buffer_size, buffer_bytes, max_event_bytes, overflow, backoff, attempt_timeout, idempotent: as
            of `Publisher`.
        observers: who is told.
        admit: what has to be so before anything is appended. It raises where that is not so.
        alone: whether it has a connection to itself.

    Attributes:
        buffer, ledger, drain: its parts.
    """

    def __init__(
        self,
        link: Way,
        stream: str,
        *,
        max_len: int | None,
        buffer_size: int,
        buffer_bytes: int,
        max_event_bytes: int,
        overflow: Overflow,
        backoff: Backoff,
        attempt_timeout: float,
        idempotent: bool,
        observers: Observers,
        admit: Callable[[], Awaitable[None]] | None,
        alone: bool,
    ) -> None:
        self.stream = stream
        appender: Appender
        if idempotent:
            from .idempotent import Numbered  # when it is needed first, as `__init__` does with others

            appender = Numbered(stream, max_len)
        else:
            appender = Transactions(stream, max_len, alone=alone)
        self._heads = appender.heads
        self._encode = encoder(stream, observers)
        self._max_event_bytes = min(max_event_bytes, buffer_bytes)
        self._always_fits = min(self._max_event_bytes, LEAST_ARGUMENT_LIMIT)
        self.ledger: Ledger = Ledger(stream, self._heads, observers)
        self.buffer: Buffer = Buffer(
            size=buffer_size, size_bytes=buffer_bytes, overflow=overflow, dropped=self.ledger.note_dropped
        )
        self.drain: Drain = Drain(
            stream,
            link,
            self.buffer,
            self.ledger,
            appender,
            backoff=backoff,
            attempt_timeout=attempt_timeout,
            max_event_bytes=self._max_event_bytes,
            observers=observers,
            admit=admit,
        )

    @property
    def pause(self) -> float:
        """How long a turn is, in seconds, that a caller of `publish` gives the event loop."""
        return PAUSE if self.buffer.nearly_full and self.drain.got_on_within(PROGRESS) else 0.0

    def encoded(self, event: Event | Action) -> bytes:
        """The event, packed. Raises EncodeError."""
        packed = self._encode(event, self._heads)
        if len(packed) > self._always_fits:
            operation = event.action.operation if isinstance(event, Event) else event.operation
            self._check_size(operation, packed)
        return packed

    def forwarded(self, event: Event) -> bytes:
        """The fields of a received event as they came, packed. Raises EncodeError."""
        packed = wire.pack_raw(event.raw, self._heads)
        self._check_size(event.action.operation, packed)
        return packed

    def _check_size(self, operation: str, packed: bytes) -> None:
        if len(packed) > self._max_event_bytes:
            raise EncodeError(
                operation,
                "",
                f"it takes {len(packed)} bytes, above the {self._max_event_bytes} that max_event_bytes and "
                "buffer_bytes allow",
            )
        if self._heads.exceeds(packed, self.drain.argument_limit):
            raise EncodeError(
                operation,
                "",
                f"a field is longer than the {self.drain.argument_limit} bytes that the server takes "
                "(its proto-max-bulk-len)",
            )

    def give_up_rest(self, reason: str) -> None:
        """Nothing is appended any more: report what is left."""
        rest = self.buffer.take_all()
        for position, packed in rest:
            self.ledger.note_undelivered(position, packed, reason)
        self.ledger.note_progress(self.buffer.oldest)
        self.ledger.close()
        if rest:
            logger.error("events_undelivered: %d events for %r, because %s", len(rest), self.stream, reason)

    @property
    def stats(self) -> PublisherStats:
        """The counts as they are now."""
        return PublisherStats(
            accepted=self.buffer.accepted,
            acknowledged=self.ledger.acknowledged,
            dropped=self.ledger.dropped,
            undelivered=self.ledger.undelivered,
            buffered=len(self.buffer),
            in_flight=len(self.buffer.in_flight),
            retries=self.drain.line.retries,
            reconnects=self.drain.line.reconnects,
            epochs=self.drain.epochs,
        )


class Lanes(list[Lane]):
    """All that a publisher has: one, or one for each partition.

    Each partition has an equal part of the buffer's bounds: while the server of one is away, what waits for it cannot
    take the room of the others.

    Args:
        link: where to connect to.
        stream, buffer_size, buffer_bytes, attempt_timeout, backoff, settings: as of `Lane`.
        partitions: how many partitions there are; None for the stream itself.
        key: what chooses among them; None for the `id` of the action.

    Raises:
        ConfigError: what cannot work.
    """

    def __init__(
        self,
        link: Link,
        stream: str,
        partitions: int | None,
        key: Key | None,
        *,
        buffer_size: int,
        buffer_bytes: int,
        attempt_timeout: float,
        backoff: Backoff,
        **settings: Any,
    ) -> None:
        streams: tuple[str, ...] = (stream,)
        admit: Callable[[], Awaitable[None]] | None = None
        self._partitioner: Partitioner | None = None
        self._nodes: Nodes | None = None
        if partitions is not None:
            streams = partition_streams(stream, partitions)
            self._partitioner = Partitioner(partitions, key)
            self._nodes = Nodes(link, backoff.initial / 2)
            admit = Agreement(self._nodes, stream, partitions, attempt_timeout).check
        elif key is not None:
            raise ConfigError("key: it chooses a partition, and there are none: give partitions=, too")
        settings |= {
            "buffer_size": max(1, buffer_size // len(streams)),
            "buffer_bytes": max(1, buffer_bytes // len(streams)),
            "attempt_timeout": attempt_timeout,
            "backoff": backoff,
            "admit": admit,
            "alone": partitions is None,
        }
        super().__init__(Lane(self._nodes or link, each, **settings) for each in streams)

    def of(self, event: Event | Action) -> Lane:
        """Where an event goes. EncodeError where it has no key."""
        return self[0] if self._partitioner is None else self[self._partitioner.choose(event)]

    @property
    def unsettled(self) -> int:
        """How many events are buffered or in flight."""
        return sum(lane.buffer.unsettled for lane in self)

    async def settled(self) -> None:
        """Wait until everything that was accepted so far is settled.

        Raises:
            Undelivered: some of it was lost and no flush has said so yet.
        """
        await settled(*((lane.ledger, lane.buffer.oldest, lane.buffer.queued) for lane in self))

    def health(self, closed: str, max_stall: float) -> PublisherHealth:
        """How it gets on: as the one that does worst.

        Args:
            closed, max_stall: as of `Drain.health`.
        """
        return worst(lane.drain.health(closed, max_stall) for lane in self)

    @property
    def stats(self) -> PublisherStats:
        """The counts as they are now, of all together."""
        each = [msgspec.structs.astuple(lane.stats) for lane in self]
        together = PublisherStats(*map(sum, zip(*each, strict=True)))
        if self._nodes is None:
            return together
        return msgspec.structs.replace(together, reconnects=self._nodes.reconnects)

    async def check(self) -> None:
        """Connect, and see whether this user may append. Raises what can never work before what may pass.

        Raises:
            AccessRefused, ConfigError: it can never work.
            Unreachable, Disconnected: it may work later.
        """
        await together([lane.drain.check() for lane in self], (Unreachable, Disconnected))

    async def disconnect(self) -> None:
        """End the connections."""
        await conclude([lane.drain.line.disconnect() for lane in self])
