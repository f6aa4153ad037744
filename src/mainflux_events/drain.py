"""The background half of a publisher: batches out of the buffer, over a connection, to their acknowledgement.

One batch is applied at a time, in one transaction or script: see `batch` for why. While the server works on it, the
callers of `publish` encode the next. Where that is full already, its commands are sent ahead, and only that they are to
be applied when the last one's replies are there: so bytes travel and are parsed in the time of a round trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

import msgspec

from .batch import EXECUTE, FORGET, Appender, Verdict
from .buffer import Buffer
from .errors import ConfigError
from .health import PublisherHealth, Publishing, publisher_health
from .hooks import Observers, SentDetails, SequenceLostDetails, logger
from .ledger import Ledger
from .line import TROUBLE, Line, Trouble
from .link import Channel, Disconnected, Reply, Unreachable
from .nodes import Way
from .policies import Backoff
from .refusals import Refusal, refuse_access
from .resp import command
from .values import text_of

MIB: Final = 1024 * 1024

# The most that goes into one transaction, which keeps the server from its other clients: about 10 ms.
BATCH_EVENTS: Final = 2000
BATCH_BYTES: Final = MIB

# A server refuses a longer argument by closing the connection. It may be configured, down to this.
LEAST_ARGUMENT_LIMIT: Final = MIB
DEFAULT_ARGUMENT_LIMIT: Final = 512 * MIB


class Ahead(msgspec.Struct, frozen=True):
    """A batch whose commands were sent ahead and wait at the server.

    Attributes:
        channel: the connection they wait on.
        first: the position of its first event.
        replies: those to the commands.
    """

    channel: Channel
    first: int
    replies: list[Reply]


class Drain:
    """Appends what is in the buffer, in order, through outages.

    Attributes:
        line: the connection.
        argument_limit: the longest argument that the server takes, in bytes.
    """

    def __init__(
        self,
        stream: str,
        link: Way,
        buffer: Buffer,
        ledger: Ledger,
        appender: Appender,
        *,
        backoff: Backoff,
        attempt_timeout: float,
        max_event_bytes: int,
        observers: Observers,
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._stream = stream
        self._buffer = buffer
        self._ledger = ledger
        self._appender = appender
        self._attempt_timeout = attempt_timeout
        self._max_event_bytes = max_event_bytes
        self._observers = observers
        self._admit = admit
        # The position of an event that the server has refused to take, in the middle of a batch.
        self._poison = 0
        # What was sent ahead; and where it began, also once it is forgotten, for it stays a batch of its own.
        self._ahead: Ahead | None = None
        self._cut = 0
        self._sent = 0.0
        self._started: float | None = None
        self._ended: float | None = None
        self._acknowledged: float | None = None
        self.argument_limit: int = DEFAULT_ARGUMENT_LIMIT
        self.line: Line = Line(
            link,
            stream,
            stream=stream,
            what="append",
            backoff=backoff,
            patience=attempt_timeout,
            observers=observers,
            prepare=self._prepare,
            follows=True,
        )

    @property
    def epochs(self) -> int:
        """How often what the server keeps of this publisher had to be begun anew."""
        return self._appender.epochs

    async def check(self) -> None:
        """Connect, and see whether this user may append to this key, without appending.

        Raises:
            AccessRefused, ConfigError: it can never work.
            Unreachable, Disconnected: it may work later.
        """
        try:
            async with asyncio.timeout(self._attempt_timeout):
                await self._check(await self.line.channel())
        except TimeoutError:
            raise Unreachable(f"{self.line.where} did not answer in {self._attempt_timeout:g} s") from None

    async def _check(self, channel: Channel) -> None:
        probe, names = self._appender.probe()
        *replies, kind = await channel.exchange(probe + command("TYPE", self._stream), len(names) + 1)
        for name, reply in zip(names, replies, strict=True):
            if not name or not isinstance(reply, Refusal):
                continue
            if reply.text.startswith("ERR unknown command"):
                word = name.partition(" ")[0]
                raise ConfigError(
                    f"{self.line.where}: the server does not know {word}, which publishing needs"
                )
            rights = f"publishing needs the rights {self._appender.rights}"
            refuse_access(reply, self.line.where, name, rights)
        if isinstance(kind, bytes) and kind not in (b"stream", b"none"):
            raise ConfigError(
                f"{self.line.where}: the key {self._stream!r} holds a {text_of(kind)}, not a stream; "
                "choose another stream, or rename the key"
            )
        self.line.worked()

    async def _prepare(self, channel: Channel) -> None:
        if self._admit is not None:
            await self._admit()
        if channel.asking and (look := self._appender.keys_there()) is not None:
            # Before version 7 the source says ASK also where only some of the keys have moved.
            [reply] = await channel.exchange(look, 1)
            if isinstance(reply, Refusal):
                raise reply
        self._appender.connected()
        if self._max_event_bytes <= LEAST_ARGUMENT_LIMIT:
            return
        [reply] = await channel.exchange(command("CONFIG", "GET", "proto-max-bulk-len"), 1)
        # Where the user may not ask, the default stands.
        match reply:
            case [_, bytes(limit)] if limit.isdigit():
                self.argument_limit = int(limit)

    async def run(self) -> None:
        """Append for ever; once the line is closing, until nothing is left. Cancelled, it leaves the rest."""
        self._started = monotonic()
        try:
            while self._buffer.unsettled or not self.line.closing.is_set():
                if not self._buffer.in_flight:
                    await self._buffer.next_batch(BATCH_EVENTS, BATCH_BYTES)
                await self._attempt()
        finally:
            self._ended = monotonic()
            await self.line.disconnect()

    def got_on_within(self, seconds: float) -> bool:
        """Whether the server has acknowledged something so lately, or could not have yet."""
        last = self._acknowledged or self._started
        return last is not None and monotonic() - last < seconds

    def health(self, closed: str, max_stall: float) -> PublisherHealth:
        """How it gets on.

        Args:
            closed: why nothing can be published; "" where that can be.
            max_stall: how many seconds what is to be appended may not be.
        """
        found = Publishing(
            closed,
            self.line.condition,
            self._buffer.unsettled,
            self._buffer.oldest_accepted,
            self._acknowledged,
            self._started,
            self._ended,
        )
        return publisher_health(found, monotonic(), max_stall)

    async def _attempt(self) -> None:
        batch: list[bytes] = []
        refusal: Trouble | None
        try:
            channel = await self.line.channel()
            batch = self._next_batch()
            if not batch:
                return
            replies = await self._exchange(channel, batch)
        except TROUBLE as trouble:
            refusal = trouble
            if batch and isinstance(trouble, Disconnected):
                self._settle(len(batch), trouble.replies)
        else:
            refusal = self._settle(len(batch), replies)
        self._keep_order()
        if refusal is not None:
            await self.line.rest(refusal)

    async def _exchange(self, channel: Channel, batch: list[bytes]) -> list[Reply]:
        """Send what of the batch was not sent ahead, and then the next one ahead. Gives the replies to the batch."""
        ahead, self._ahead = self._ahead, None
        self._sent = monotonic()
        if ahead is None or ahead.channel is not channel:
            answer = channel.exchange(*self._appender.payload(batch))
            self._send_ahead(channel, len(batch))
            return await answer
        answer = channel.exchange(*EXECUTE)
        self._send_ahead(channel, len(batch))
        return ahead.replies + await answer

    def _send_ahead(self, channel: Channel, before: int) -> None:
        """Have the server queue the next batch, if it is full, behind one of so many events."""
        buffer, queued = self._buffer, self._appender.queued
        if (
            queued is None
            or channel.asking
            or len(buffer.in_flight) > before
            or self._max_event_bytes > self.argument_limit
        ):
            return
        if not buffer.take_full_batch(BATCH_EVENTS, BATCH_BYTES):
            return
        self._cut = buffer.first_in_flight + before
        self._ahead = ahead = Ahead(channel, self._cut, [])
        payload, wanted = queued(buffer.in_flight[before:])
        channel.post(payload, wanted, lambda replies, _: ahead.replies.extend(replies))

    def _keep_order(self) -> None:
        """What was sent ahead is not applied, unless all that is before it is settled."""
        ahead = self._ahead
        if ahead is not None and ahead.first != self._buffer.first_in_flight:
            ahead.channel.post(*FORGET, lambda _, __: None)
            self._ahead = None

    def _next_batch(self) -> list[bytes]:
        """The oldest events, up to one that the server will not take. The oldest of all, if so, is given up."""
        in_flight, limit, exceeds = self._buffer.in_flight, self.argument_limit, self._appender.heads.exceeds
        first = self._buffer.first_in_flight
        most = min((end - first for end in (self._poison, self._cut) if end > first), default=BATCH_EVENTS)
        if self._max_event_bytes > limit and not self._appender.in_doubt:
            while in_flight and exceeds(in_flight[0], limit):
                self._give_up_oldest(1, f"a field is longer than the {limit} bytes that the server takes")
            too_long = (place for place, packed in enumerate(in_flight) if exceeds(packed, limit))
            most = min(most, next(too_long, most))
        return in_flight[:most]

    def _settle(self, events: int, replies: list[Reply]) -> Refusal | None:
        """Take what the replies say of the batch. Gives the refusal because of which the rest has to wait."""
        found = self._appender.verdict(events, replies)
        done = len(found.acknowledged)
        if self._observers and self._appender.sends_events:
            self._report_sent(events, found)
        if done:
            self._ledger.note_acknowledged(self._buffer.first_in_flight, found.acknowledged)
            self._buffer.settle(done)
            self._acknowledged = monotonic()
            self.line.worked()
        if found.lost is not None:
            self._report_lost(found.lost)
        if found.poison == done:
            self._give_up_oldest(1, f"the server refuses it: {found.refusal}")
        elif found.poison is not None:
            # Those before it first; then it is the oldest.
            self._poison = self._buffer.first_in_flight + found.poison - done
        self._ledger.note_progress(self._buffer.oldest)
        return found.refusal if found.poison is None else None

    def _report_sent(self, events: int, found: Verdict) -> None:
        done = len(found.acknowledged)
        error = "" if done == events else found.refusal.code if found.refusal is not None else "disconnected"
        seconds = monotonic() - self._sent
        batch = self._buffer.in_flight[:events]
        details = SentDetails(self._stream, events, done, error, seconds, batch, self._appender.heads)
        self._observers.notify("sent", details)

    def _report_lost(self, details: SequenceLostDetails) -> None:
        logger.error(
            "sequence_lost: %r, the key %r %s, where %d events were acknowledged",
            details.stream,
            details.key,
            "is gone" if details.found is None else f"says {details.found}",
            details.acknowledged,
        )
        self._observers.notify("sequence_lost", details)
        if details.unknown:
            self._give_up_oldest(
                details.unknown,
                "nobody knows whether the server appended it: the publisher's sequence is gone",
            )

    def _give_up_oldest(self, events: int, reason: str) -> None:
        """Give up so many events of those in flight."""
        given_up = list(enumerate(self._buffer.in_flight[:events], self._buffer.first_in_flight))
        self._buffer.settle(events)
        for position, packed in given_up:
            self._ledger.note_undelivered(position, packed, reason)
        self._ledger.note_progress(self._buffer.oldest)
        logger.error("events_undelivered: %d for %r are given up: %s", events, self._stream, reason)
