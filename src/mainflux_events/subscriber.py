"""Subscribing: read ahead, decode, hand out, commit.

One background task reads, one gets over the troubles of the connection that stores the cursors. What is in between,
decoding, handing out and committing, happens in the task that iterates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import anyio

from .attach import ask_lag, attach
from .commits import Committer
from .consumer import Consumer
from .cursor import Cursor, Lag, Start, check_start, checked_name, checked_streams, padded
from .errors import ConfigError, EventsError
from .events import Action, Event
from .gaps import Place
from .hooks import Hooks, logger
from .link import Channel, Disconnected, Link, Server, Unreachable
from .notices import OnGap
from .policies import Backoff, Commit, DeadLetters, checked_dead_letters, instance
from .reader import Reader
from .refusals import Refusal
from .sieve import OnUnknown
from .tasks import conclude, end
from .writer import DeadLetterWriter

# The waits between attempts to reach the server, and how long it may be silent: the reference's.
BACKOFF: Final = Backoff()
PATIENCE: Final = 5.0

# How long closing may take to store the cursor: the reference's.
CLOSE_BOUND: Final = 2.0


class Subscriber(Consumer):
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
        on_gap: what becomes of it that entries were removed before they were read, or that the stream is another one
            than it was: "report", by hooks, log and counts, or "raise" StreamGap and StreamReset as well; iterating
            again goes on behind it.
        on_unknown: what becomes of an operation that no class is known for: "skip", or "yield" an UnknownAction.
        dead_letter: where entries go that do not decode, or whose handler failed for good: the key of a stream, or
            DeadLetters with more to say of it. None: they are given up, with a report.
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
        on_gap: OnGap = "report",
        on_unknown: OnUnknown = "skip",
        dead_letter: str | DeadLetters | None = None,
        hooks: Hooks | Iterable[Hooks] = (),
    ) -> None:
        self.streams: tuple[str, ...] = checked_streams(stream)
        self.name: str = checked_name(name)
        dead_letters = checked_dead_letters(dead_letter, self.streams)
        super().__init__(f"the subscriber {name!r}", actions, on_unknown, hooks, dead_letters, on_gap)
        check_start(start)
        if not isinstance(commit, Commit):
            raise ConfigError(f"commit: Commit.each() or Commit.every() is wanted, not {commit!r}")
        self._start = start
        self._commit_policy = commit
        self._link = Link(redis, PATIENCE)
        self._cursors = {stream: Cursor(name, stream) for stream in self.streams}
        self._places = [Place(cursor) for cursor in self._cursors.values()]
        self._committers: dict[Cursor, Committer] = {}
        self._committing: list[Committer] = []
        self._parts: list[Reader | Committer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = asyncio.Event()

    # --- consuming ---

    async def commit(self, event: Event) -> None:
        """Commit the event that was handed out last, without asking for the next; wait until that is stored.

        Raises:
            ValueError: it is another event.
            TimeoutError: it is not stored yet. It will be tried further.
        """
        self._check_started()
        instance("commit", event, Event)
        self._settle_finished()
        if self._in_hand:
            last = self._events[self._place - 1]
            if (last.id, last.stream) == (event.id, event.stream):
                self._settle(self._place)
        cursor = self._cursors.get(event.stream)
        if cursor is None or not event.id or padded(event.id) > padded(cursor.handled):
            raise ValueError("commit: this event is not the one that was handed out last")
        try:
            await self._committers[cursor].flush(PATIENCE)
        except TimeoutError:
            raise TimeoutError(
                f"commit: {cursor.key!r} is not stored after {PATIENCE:g} s; it is tried further"
            ) from None

    def _left(self, _: object) -> None:
        for committer in self._committing:
            committer.store_soon()

    def _look_out(self) -> None:
        for committer in self._committing:
            committer.look_out()

    # --- looking ---

    async def lag(self) -> dict[str, Lag]:
        """How far the handled position is behind the end of each stream.

        Raises:
            EventsError: the server cannot be asked at the moment.
        """
        self._check_started()
        return {each.cursor.stream: await ask_lag(each, self._link, PATIENCE) for each in self._places}

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
        groups = [[each] for each in self._places] if self._link.sharded else [self._places]
        readers = [self._reader(group) for group in groups]
        if self._dead_letters is not None:
            self._writer = DeadLetterWriter(
                self._link,
                self._dead_letters,
                self.name,
                backoff=BACKOFF,
                patience=PATIENCE,
                observers=self._observers,
            )
        self._parts = [*readers, *self._committing]
        try:
            await self._begin(readers)
        except BaseException:
            self._state = "closed"
            with anyio.CancelScope(shield=True):
                await self._disconnect()
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
                if self._writer is not None:
                    await self._writer.check()
        except (Unreachable, Disconnected, Refusal, TimeoutError) as error:
            reason = str(error) or f"{self._link.where} did not answer in {PATIENCE:g} s"
            logger.warning("read_unreachable: %r starts without a server: %s", self.name, reason)
        if self._state == "closed":
            raise EventsError(f"the subscriber {self.name!r} was closed while it started")

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A background task is over. Before closing that means that it died, and whoever iterates is told."""
        if self._state == "started" and (task.cancelled() or task.exception() is not None):
            cause = "somebody cancelled it" if task.cancelled() else repr(task.exception())
            self._intake.inbox.put_nowait(EventsError(f"a background task of {self.name!r} died: {cause}"))

    def _reader(self, places: list[Place]) -> Reader:
        cursors = [place.cursor for place in places]
        settings: dict[str, Any] = {"backoff": BACKOFF, "patience": PATIENCE, "observers": self._observers}
        committer = Committer(self._link, cursors, self._commit_policy, self._settle_finished, **settings)
        self._committers |= dict.fromkeys(cursors, committer)
        self._committing.append(committer)

        async def begin(reading: Channel) -> None:
            if not all(place.id for place in places):
                await attach(places, self._start, reading, await committer.channel(), self._link.where)

        return Reader(
            self._link,
            places,
            committer,
            begin,
            self._notices,
            committer.go_back,
            self._intake.inbox,
            **settings,
        )

    async def aclose(self) -> None:
        """Store the handled position, in at most 2 seconds, and end. A loop over the events ends too."""
        if self._loop is not None:
            self._check_loop()
        started = self._state == "started"
        self._end()
        if not started:
            if self._tasks:
                await self._closed.wait()
            return
        try:
            for committer in self._committing:
                committer.close()
            async with asyncio.timeout(CLOSE_BOUND):
                if self._writer is not None:
                    self._writer.close(CLOSE_BOUND)
                    await self._writer.idle()
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
                await self._disconnect()

    async def _disconnect(self) -> None:
        writers = [] if self._writer is None else [self._writer]
        await conclude([part.disconnect() for part in (*self._parts, *writers)])
