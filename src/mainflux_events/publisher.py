"""Publishing: accept, drain, acknowledge.

`publish` encodes the event and puts it into the buffer. One background task, the drain, takes batches from there,
appends them, and settles each event: acknowledged, or given up with a report.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import _get_running_loop
from collections.abc import Iterable
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskStatus

from .buffer import Overflow
from .drain import MIB
from .errors import EmptyStream, EncodeError, EventsError, NotStarted, PublisherClosed, Undelivered
from .events import Action, Event
from .health import MAX_STALL, PublisherHealth
from .hooks import Hooks, Observers, logger
from .lane import Lane, Lanes
from .lifecycle import Lifecycle
from .link import Disconnected, Link, Server, Unreachable
from .partitions import Key
from .policies import Backoff, instance, positive, text, whole
from .stats import PublisherStats
from .tasks import LoopLost, done_by, end

# After so many accepted events a caller of `publish` gives the loop a turn, so that the drain keeps writing.
TURN_EVERY: Final = 128

# With several partitions it takes more of them until each has as many to write; so many at most.
TURN_EVERY_AT_MOST: Final = 1024


class Publisher(Lifecycle):
    """Publishes events to one stream, without making the caller wait for Redis.

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`), or a client of redis.asyncio, of which only the connection
            settings or the discovery are taken.
        stream: the key of the stream.
        max_len: about how many entries the stream is trimmed to (`XADD MAXLEN ~`); None keeps all.
        buffer_size: the most events that wait in memory.
        buffer_bytes: the most bytes that they take.
        max_event_bytes: the most bytes of one event, as packed for the wire.
        overflow: what becomes of an event that has no room: "drop_oldest" makes room, "drop_newest" drops it,
            "raise" raises BufferFull, "wait" waits.
        backoff: the waits between attempts.
        attempt_timeout: seconds that the server may be silent before an attempt has failed.
        close_timeout: seconds that closing may take to deliver what is buffered.
        idempotent: whether no retry may append an event again. It costs the server more, and where that loses the key
            in which it notes what it has appended, a batch that was not answered is undelivered.
        partitions: how many streams the events are spread over, `{stream:0}` and so on; None for the stream itself.
            Each has an equal part of `buffer_size` and `buffer_bytes`, and `max_len` of its own.
        key: with partitions, gives what events have in common that have to stay in order, a str, bytes or an int; None
            for the `id` of the action.
        hooks: what is told of drops, retries and the like.

    Raises:
        ConfigError: an argument that cannot work, EmptyStream among them.
    """

    def __init__(
        self,
        redis: Server,
        stream: str,
        *,
        max_len: int | None = 100_000,
        buffer_size: int = 10_000,
        buffer_bytes: int = 64 * MIB,
        max_event_bytes: int = MIB,
        overflow: Overflow = "drop_oldest",
        backoff: Backoff = Backoff(),
        attempt_timeout: float = 5.0,
        close_timeout: float = 5.0,
        idempotent: bool = False,
        partitions: int | None = None,
        key: Key | None = None,
        hooks: Hooks | Iterable[Hooks] = (),
    ) -> None:
        if stream == "":
            raise EmptyStream
        text("stream", stream)
        if max_len is not None:
            whole("max_len", max_len)
        whole("buffer_size", buffer_size)
        whole("buffer_bytes", buffer_bytes)
        whole("max_event_bytes", max_event_bytes)
        positive("attempt_timeout", attempt_timeout)
        positive("close_timeout", close_timeout, zero=True)
        instance("backoff", backoff, Backoff)
        self.stream = stream
        self._close_timeout = close_timeout
        self._lanes = Lanes(
            Link(redis, attempt_timeout),
            stream,
            partitions,
            key,
            max_len=max_len,
            buffer_size=buffer_size,
            buffer_bytes=buffer_bytes,
            max_event_bytes=max_event_bytes,
            overflow=overflow,
            backoff=backoff,
            attempt_timeout=attempt_timeout,
            idempotent=idempotent,
            observers=Observers(hooks),
        )
        # Where all events go, if there are no partitions.
        self._lane: Lane | None = self._lanes[0] if partitions is None else None
        self._turn_every = min(TURN_EVERY * len(self._lanes), TURN_EVERY_AT_MOST)
        # Where publishing is possible: the loop it was started on. None before and after.
        self._open_on: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        self._died: BaseException | None = None

    # --- publishing ---

    async def publish(self, event: Event | Action) -> None:
        """Accept an event into memory. Never waits for Redis, unless `overflow="wait"` and there is no room.

        While the buffer is over half full, and now and then in between, it gives the event loop one turn, so that a
        loop of calls does not outrun the drain. While it is nearly full, and the server acknowledges, that turn takes
        a millisecond.

        Raises:
            EncodeError: the event cannot be written, or has no key to choose a partition by; nothing was enqueued.
            BufferFull: there is no room, and `overflow="raise"`.
            NotStarted, PublisherClosed: not a time to publish.
        """
        lane = self._open_lane(event)
        packed = lane.encoded(event)
        buffer = lane.buffer
        if buffer.may_wait:
            await buffer.put_when_room(packed)
        else:
            buffer.put(packed)
        if buffer.crowded or not buffer.queued % self._turn_every:
            await asyncio.sleep(lane.pause)

    def publish_nowait(self, event: Event | Action) -> None:
        """Accept an event into memory, without giving the loop a turn. With `overflow="wait"` it raises BufferFull.

        Raises:
            EncodeError, BufferFull, NotStarted, PublisherClosed: as `publish`.
        """
        lane = self._open_lane(event)
        lane.buffer.put(lane.encoded(event))

    def publish_threadsafe(self, event: Event | Action) -> None:
        """Accept an event from another thread than the event loop's, such as that of a plain `def` endpoint.

        It encodes in the calling thread, and waits until the event loop has taken the event.

        Raises:
            EncodeError, BufferFull, NotStarted, PublisherClosed: as `publish`, in the calling thread.
            RuntimeError: called on the event loop itself, where `publish_nowait` is to be used, or in a process that
                was forked after the start.
        """
        loop = self._loop
        if loop is None:
            raise NotStarted(f"the publisher of {self.stream!r}")
        if os.getpid() != self._process:
            raise self._elsewhere()  # the loop looks as if it ran here too, but nobody runs it
        if _get_running_loop() is loop:
            raise RuntimeError(
                "publish_threadsafe was called on the event loop: use publish or publish_nowait"
            )
        lane = self._lanes.of(event)
        try:
            done_by(loop, self._accept(lane, lane.encoded(event)))
        except LoopLost:
            raise PublisherClosed(self.stream, "has lost its event loop") from None

    async def send(self, event: Event | Action) -> str:
        """Publish an event and wait until Redis has acknowledged it. Gives the ID of its entry.

        Cancelling it withdraws nothing.

        Raises:
            Undelivered: the event was dropped or given up.
            EncodeError, BufferFull, NotStarted, PublisherClosed: as `publish`.
        """
        lane = self._open_lane(event)
        position = await self._accept(lane, lane.encoded(event))
        if position is None:
            raise Undelivered(1, "the buffer was full")
        return await lane.ledger.acknowledgement(position)

    async def forward(self, event: Event) -> None:
        """Publish a received event's fields as they came, byte for byte, whatever its action.

        Raises:
            EncodeError: the event was not received, or is too large.
            BufferFull, NotStarted, PublisherClosed: as `publish`.
        """
        self._check_open()
        if not isinstance(event, Event) or not event.raw:
            raise EncodeError("", "", "it was not received, so there is nothing to forward")
        lane = self._lanes.of(event)
        await self._accept(lane, lane.forwarded(event))

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything that was accepted so far is acknowledged.

        Args:
            timeout: seconds to wait; None waits as long as it takes.

        Raises:
            Undelivered: something that was accepted, and that no flush has told of yet, was lost.
            TimeoutError: the time has passed.
            NotStarted, PublisherClosed: nothing to wait for.
        """
        self._check_open()
        if timeout is not None:
            positive("timeout", timeout, zero=True)
        try:
            async with asyncio.timeout(timeout):
                await self._lanes.settled()
        except TimeoutError:
            left = self._lanes.unsettled
            raise TimeoutError(
                f"flush: after {timeout} s, {left} events for {self.stream!r} are not acknowledged; "
                "they are tried further"
            ) from None

    @property
    def stats(self) -> PublisherStats:
        """The counts as they are now, of all partitions together."""
        return self._lanes.stats

    def health(self, *, max_stall: float = MAX_STALL) -> PublisherHealth:
        """Whether it gets on: what is accepted is being acknowledged. Asks nobody, and may be called from any thread.

        Args:
            max_stall: how many seconds what is accepted may wait without anything being acknowledged.
        """
        positive("max_stall", max_stall)
        return self._lanes.health("" if self._open_on is not None else str(self._closed()), max_stall)

    def _open_lane(self, event: Event | Action) -> Lane:
        """Where an event goes, where this is a time and a place to publish."""
        if self._open_on is None or self._open_on is not _get_running_loop():
            self._check_open()
        return self._lane or self._lanes.of(event)

    async def _accept(self, lane: Lane, packed: bytes) -> int | None:
        self._check_open()
        return await lane.buffer.put_when_room(packed)

    def _check_open(self) -> None:
        loop = self._open_on
        if loop is None:
            raise self._closed() from self._died
        if loop is not _get_running_loop():
            raise self._elsewhere()

    def _elsewhere(self) -> RuntimeError:
        if os.getpid() != self._process:
            return RuntimeError(
                f"the publisher of {self.stream!r} was started in another process: after a fork, make another one"
            )
        return RuntimeError(
            f"the publisher of {self.stream!r} belongs to another event loop or thread than this call: "
            "use publish_threadsafe from other threads, and one publisher for each event loop"
        )

    def _closed(self) -> EventsError:
        """Why nothing can be published."""
        if self._died is not None:
            return PublisherClosed(self.stream, f"died: {self._died!r}")
        if not self._tasks and not self._over:
            return NotStarted(f"the publisher of {self.stream!r}")
        return PublisherClosed(self.stream, "is closed")

    # --- life ---

    async def start(self) -> None:
        """Connect, and begin to drain. Where Redis cannot be reached at the moment, that goes on in the background.

        Raises:
            AccessRefused: the server refuses the password, or the rights are missing.
            ConfigError: the address, or what the stream's key holds, can never work.
            PublisherClosed: it was closed meanwhile.
        """
        self._bind()
        try:
            await self._lanes.check()
        except (Unreachable, Disconnected) as error:
            logger.warning(
                "append_unreachable: publishing to %r starts without a server: %s", self.stream, error
            )
        except BaseException:
            self._over = True
            await self._lanes.disconnect()
            raise
        if self._over:
            await self._lanes.disconnect()
            raise PublisherClosed(self.stream, "was closed while it started")
        self._open_on = self._loop
        self._tasks = [self._draining(lane) for lane in self._lanes]

    def _draining(self, lane: Lane) -> asyncio.Task[None]:
        task = asyncio.create_task(lane.drain.run(), name=f"mainflux_events drain of {lane.stream}")
        task.add_done_callback(partial(self._ended, lane))
        return task

    def _bind(self) -> None:
        if self._loop is not None or self._over:
            raise RuntimeError(f"the publisher of {self.stream!r} was used before; make another one")
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()

    def _ended(self, lane: Lane, task: asyncio.Task[None]) -> None:
        """A background task is over: as it should be while closing, else it died, and with it the publisher."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._died = error
            logger.critical("publisher_died: the background task of %r", lane.stream, exc_info=error)
        elif self._open_on is not None:
            self._died = asyncio.CancelledError("somebody cancelled the background task")
        self._open_on = None
        if self._died is not None:
            lane.buffer.refuse_waiting(lambda: PublisherClosed(self.stream, f"died: {self._died!r}"))
            for other in self._tasks:
                other.cancel()
        lane.give_up_rest("its background task died" if self._died else "the publisher closed")

    async def aclose(self) -> None:
        """Deliver what is buffered, in at most `close_timeout` seconds; report the rest; end.

        Raises:
            PublisherClosed: the background task had died.
        """
        if self._tasks and self._loop is not asyncio.get_running_loop():
            raise self._elsewhere()
        self._open_on = None
        self._over = True
        if not self._tasks:
            return
        for lane in self._lanes:
            lane.drain.line.closing.set()
            lane.buffer.refuse_waiting(lambda: PublisherClosed(self.stream, "is closed"))
        try:
            if self._lanes.unsettled:
                await asyncio.wait(self._tasks, timeout=self._close_timeout)
        finally:
            try:
                await end(self._tasks)
            finally:
                # A task that is cancelled before its first step has not done so.
                await self._lanes.disconnect()
        if self._died is not None:
            raise self._closed() from self._died

    async def run(self, *, task_status: TaskStatus[Publisher] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start, publish until cancelled or closed, and close: for `await task_group.start(publisher.run)`.

        Raises:
            AccessRefused, ConfigError: as `start`.
            PublisherClosed: the background task died.
        """
        async with self:
            task_status.started(self)
            await asyncio.wait(self._tasks)
