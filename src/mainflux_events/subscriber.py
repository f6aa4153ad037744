"""Subscribing: read ahead, decode, hand out, commit.

One background task reads, one gets over the troubles of the connection that stores the cursors. What is in between,
decoding, handing out and committing, happens in the task that iterates.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from asyncio import _get_running_loop
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Literal, NoReturn

import anyio
from anyio.abc import TaskStatus

from .attach import ask_lag, attach
from .commits import Committer
from .cursor import Cursor, Entry, Lag, Start, check_start, checked_name, checked_streams, padded
from .dispatch import Dispatch, Handler, OnFailure
from .errors import ConfigError, EventsError, NotStarted
from .events import Action, Event
from .hooks import Hooks, Observers, logger
from .iteration import Iteration
from .lifecycle import Lifecycle
from .link import Channel, Disconnected, Link, Server, Unreachable
from .policies import Backoff, Commit, Retry, instance
from .reader import Inbox, Reader
from .refusals import Refusal
from .sieve import OnUnknown, Sieve
from .stats import SubscriberStats
from .tasks import conclude, end

# The waits between attempts to reach the server, and how long it may be silent: the reference's.
BACKOFF: Final = Backoff()
PATIENCE: Final = 5.0

# How long closing may take to store the cursor: the reference's.
CLOSE_BOUND: Final = 2.0

# How many events may be handed out, and for how long, before the event loop gets a turn.
TURN_EVENTS: Final = 64
TURN_SECONDS: Final = 0.001


class Subscriber(Lifecycle):
    """Consumes the events of one or several streams, from where this name left off.

        async with Subscriber("redis://localhost:6379/0", "mainflux.things", "audit") as subscriber:
            async for event in subscriber:  # asking for the next event commits this one
                ...

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`), or a client of redis.asyncio, of which only the connection
            settings or the discovery are taken.
        stream: the key of a stream, or several.
        name: what the cursor is stored under, in the key `mainflux:cursor:<name>:<stream>`.
        start: where to begin where no cursor is stored: "new" at the end of the stream, "earliest", behind the entry
            of an ID, at a datetime, or at a timedelta back from now.
        actions: the classes to decode; None means all that are known. Entries of others are passed over.
        commit: when the cursor is stored.
        on_unknown: what becomes of an operation that no class is known for: "skip", or "yield" an UnknownAction.
        hooks: what is told of failures, skips and the like.

    Raises:
        ConfigError: an argument that cannot work, EmptyStream and EmptyName among them.
    """

    def __init__(
        self,
        redis: Server,
        stream: str | Iterable[str],
        name: str,
        *,
        start: Start = "new",
        actions: Iterable[type[Action]] | None = None,
        commit: Commit = Commit.each(),
        on_unknown: OnUnknown = "skip",
        hooks: Hooks | Iterable[Hooks] = (),
    ) -> None:
        self.streams: tuple[str, ...] = checked_streams(stream)
        self.name: str = checked_name(name)
        check_start(start)
        if not isinstance(commit, Commit):
            raise ConfigError(f"commit: Commit.each() or Commit.every() is wanted, not {commit!r}")
        self._start = start
        self._commit_policy = commit
        self._observers = Observers(hooks)
        self._sieve = Sieve(actions, on_unknown, self._observers)
        self._link = Link(redis, PATIENCE)
        self._cursors = {stream: Cursor(name, stream) for stream in self.streams}
        self._committers: dict[Cursor, Committer] = {}
        self._committing: list[Committer] = []
        self._parts: list[Reader | Committer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._state: Literal["new", "started", "closed"] = "new"
        self._loop: asyncio.AbstractEventLoop | None = None
        # What was fetched: batches in the inbox, entries of the batch in hand, and the entry in hand, which was
        # handed out and is not handled yet.
        self._inbox: Inbox = asyncio.Queue()
        self._entries: deque[Entry] = deque()
        self._in_hand: Entry | None = None
        self._closed = asyncio.Event()
        self._consumer: weakref.ref[Iteration] | None = None
        self._asking = False
        self._dispatch: Dispatch | None = None
        self._handled = self._retried = self._given_up = 0
        self._since_turn = 0
        self._turned_at = 0.0

    # --- consuming ---

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._consume()

    async def __anext__(self) -> Event:
        if self._consumer is not None and self._consumer() is not None:
            raise RuntimeError(_BUSY)
        return await self._next()

    async def run(
        self,
        handler: Handler,
        *,
        retry: Retry = Retry(),
        timeout: float | None = None,
        on_failure: OnFailure = "skip",
        task_status: TaskStatus[Subscriber] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Call a handler for each event until cancelled or closed. Starts the subscriber, where that is not done.

        Args:
            handler: a plain function or a coroutine function, called on the event loop.
            retry: how often it is called for one event.
            timeout: seconds that one call of a coroutine function may take.
            on_failure: what becomes of an event that no attempt handled: "skip" gives it up with a report, "raise"
                raises HandlerFailed and leaves the cursor before it.
            task_status: for `await task_group.start(subscriber.run, handler)`.

        Raises:
            HandlerFailed: as `on_failure` says.
            EventsError: what `start` raises, where it starts the subscriber.
        """
        dispatch = Dispatch(
            handler, retry=retry, timeout=timeout, on_failure=on_failure, observers=self._observers
        )
        if self._state == "new":
            async with self:
                await self._run(dispatch, task_status)
        else:
            await self._run(dispatch, task_status)

    async def _run(self, dispatch: Dispatch, task_status: TaskStatus[Subscriber]) -> None:
        events = self._consume()
        task_status.started(self)
        self._dispatch = dispatch
        try:
            async for event in events:
                if not await dispatch.handle(event) and self._in_hand is not None:
                    self._given_up += 1
                    self._finish_in_hand(time.monotonic())
        finally:
            self._dispatch = None
            self._retried += dispatch.retried
            del events  # the traceback of an error would keep it, and with it this loop

    async def commit(self, event: Event) -> None:
        """Commit the event that was handed out last, without asking for the next; wait until that is stored.

        Raises:
            ValueError: it is another event.
            TimeoutError: it is not stored yet. It will be tried further.
        """
        self._check_started()
        instance("commit", event, Event)
        cursor = self._cursors.get(event.stream)
        if self._in_hand is not None and (self._in_hand[0], self._in_hand[1].decode()) == (cursor, event.id):
            self._handled += 1
            self._finish_in_hand(time.monotonic())
        if cursor is None or not event.id or padded(event.id) > padded(cursor.handled):
            raise ValueError("commit: this event is not the one that was handed out last")
        try:
            await self._committers[cursor].flush(PATIENCE)
        except TimeoutError:
            raise TimeoutError(
                f"commit: {cursor.key!r} is not stored after {PATIENCE:g} s; it is tried further"
            ) from None

    def _consume(self) -> Iteration:
        self._check_started()
        if self._asking or (self._consumer is not None and self._consumer() is not None):
            raise RuntimeError(_BUSY)
        events = Iteration(self._next)
        self._consumer = weakref.ref(events, self._left)
        if self._in_hand is not None:
            # It was handed out and not handled, so it comes again.
            self._entries.appendleft(self._in_hand)
            self._in_hand = None
        return events

    def _left(self, _: object) -> None:
        """The loop was left: what is handled is stored now, whatever the policy."""
        for committer in self._committing:
            committer.write_soon()

    async def _next(self) -> Event:
        """Commit the event in hand, and give the next. Cancelled, it has taken nothing."""
        if self._asking or self._loop is not _get_running_loop():
            self._refuse()
        now = time.monotonic()
        if self._in_hand is not None and self._state == "started":
            self._handled += 1
            self._finish_in_hand(now)
        while True:
            if self._since_turn >= TURN_EVENTS or now - self._turned_at >= TURN_SECONDS:
                now = await self._turn()
            if self._state == "closed":
                raise StopAsyncIteration
            if not self._entries:
                await self._refill()
                now = time.monotonic()
                continue
            self._since_turn += 1
            entry = self._in_hand = self._entries.popleft()
            event = self._sieve.event(entry)
            if event is not None:
                return event
            self._finish_in_hand(now)

    async def _turn(self) -> float:
        """Give the event loop a turn; since no handler awaits it, it is no reason to commit each event."""
        self._asking = True
        try:
            await asyncio.sleep(0)
        finally:
            self._asking = False
        self._since_turn = 0
        self._turned_at = time.monotonic()
        for committer in self._committing:
            committer.look_out()
        return self._turned_at

    async def _refill(self) -> None:
        self._asking = True
        try:
            waited = self._inbox.empty()
            item = await self._inbox.get()
        finally:
            self._asking = False
        if isinstance(item, tuple):
            reader, entries = item
            self._entries.extend(entries)
            reader.proceed(waited=waited)
            return
        self._inbox.put_nowait(item)  # for whoever asks again
        if item is not None:
            raise item.with_traceback(None)

    def _finish_in_hand(self, now: float) -> None:
        """The entry in hand is done with: the cursor may move past it."""
        assert self._in_hand is not None
        cursor, id, _ = self._in_hand
        self._in_hand = None
        self._committers[cursor].finished(cursor, id, now)

    # --- looking ---

    @property
    def stats(self) -> SubscriberStats:
        """The counts as they are now."""
        skipped, given_up = self._sieve.skipped, self._sieve.given_up + self._given_up
        return SubscriberStats(
            received=self._handled + skipped + given_up + (self._in_hand is not None),
            handled=self._handled,
            skipped=skipped,
            retried=self._retried + (self._dispatch.retried if self._dispatch else 0),
            given_up=given_up,
        )

    async def lag(self) -> dict[str, Lag]:
        """How far the handled position is behind the end of each stream.

        Raises:
            EventsError: the server cannot be asked at the moment.
        """
        self._check_started()
        return {each.stream: await ask_lag(each, self._link, PATIENCE) for each in self._cursors.values()}

    # --- life ---

    async def start(self) -> None:
        """Connect, and begin to read. Where Redis cannot be reached at the moment, that goes on in the background.

        Raises:
            AccessRefused: the server refuses the password, or rights are missing.
            ConfigError: the address, or what a stream's key holds, can never work.
            CursorCorrupt: what is stored as the cursor is no ID.
        """
        if self._state != "new":
            raise RuntimeError(f"the subscriber {self.name!r} was used before; make another one")
        self._state = "started"
        self._loop = asyncio.get_running_loop()
        cursors = list(self._cursors.values())
        groups = [[each] for each in cursors] if self._link.sharded else [cursors]
        readers = [self._reader(group) for group in groups]
        self._parts = [*readers, *self._committing]
        try:
            await self._begin(readers)
        except BaseException:
            self._state = "closed"
            with anyio.CancelScope(shield=True):
                await conclude([part.disconnect() for part in self._parts])
            raise
        for part in self._parts:
            task = self._loop.create_task(part.run(), name=f"mainflux_events {self.name}")
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    async def _begin(self, readers: list[Reader]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                for reader in readers:
                    await reader.begin()
        except (Unreachable, Disconnected, Refusal, TimeoutError) as error:
            reason = str(error) or f"{self._link.where} did not answer in {PATIENCE:g} s"
            logger.warning("read_unreachable: %r starts without a server: %s", self.name, reason)
        if self._state == "closed":
            raise EventsError(f"the subscriber {self.name!r} was closed while it started")

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A background task is over. Before closing that means that it died, and whoever iterates is told."""
        if self._state == "started" and (task.cancelled() or task.exception() is not None):
            cause = "somebody cancelled it" if task.cancelled() else repr(task.exception())
            self._inbox.put_nowait(EventsError(f"a background task of {self.name!r} died: {cause}"))

    def _reader(self, cursors: list[Cursor]) -> Reader:
        settings: dict[str, Any] = {"backoff": BACKOFF, "patience": PATIENCE, "observers": self._observers}
        committer = Committer(self._link, cursors, self._commit_policy, **settings)
        self._committers |= dict.fromkeys(cursors, committer)
        self._committing.append(committer)

        async def begin(reading: Channel) -> None:
            if not all(cursor.handled for cursor in cursors):
                await attach(cursors, self._start, reading, await committer.channel(), self._link.where)

        return Reader(self._link, cursors, begin, self._inbox, **settings)

    async def aclose(self) -> None:
        """Store the handled position, in at most 2 seconds, and end. A loop over the events ends too."""
        if self._loop is not None:
            self._check_loop()
        started, self._state = self._state == "started", "closed"
        if not started:
            if self._tasks:
                await self._closed.wait()
            return
        self._inbox.put_nowait(None)
        try:
            for committer in self._committing:
                committer.close()
            async with asyncio.timeout(CLOSE_BOUND):
                for committer in self._committing:
                    await committer.flush(CLOSE_BOUND)
        except TimeoutError:
            for cursor in self._cursors.values():
                if not cursor.settled:
                    logger.error("cursor_not_saved: %r at %s, on closing", cursor.key, cursor.handled)
        finally:
            try:
                await end(self._tasks)
            finally:
                self._closed.set()
                await conclude([part.disconnect() for part in self._parts])

    def _check_started(self) -> None:
        if self._loop is not _get_running_loop() or self._state != "started":
            self._refuse()

    def _check_loop(self) -> None:
        if self._loop is not _get_running_loop():
            raise RuntimeError(
                f"the subscriber {self.name!r} belongs to another event loop; make one for each"
            )

    def _refuse(self) -> NoReturn:
        """Raise why nothing can be asked for now."""
        if self._state == "new":
            raise NotStarted(f"the subscriber {self.name!r}")
        if self._loop is not None:
            self._check_loop()
        if self._state == "closed":
            raise EventsError(f"the subscriber {self.name!r} is closed; make another one")
        raise RuntimeError(_BUSY)


_BUSY: Final = "this subscriber is being consumed already: one loop or run at a time"
