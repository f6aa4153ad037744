"""Subscribing: read ahead, decode, hand out, commit.

One background task reads, one gets over the troubles of the connection that stores the cursors, and one holds the
leases, where there are some. What is in between, decoding, handing out and committing, happens in the task that
iterates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from time import monotonic
from typing import Literal, TypeAlias

from .attach import ask_lag, attach, look
from .commits import Committer
from .consumer import Consumer
from .cursor import Cursor, Lag, Start, check_start, checked_name, checked_streams, padded
from .errors import ConfigError, LeaseLost
from .events import Action, Event
from .gaps import Place
from .hooks import Hooks
from .link import Channel, Reply, Server
from .notices import OnGap
from .policies import Commit, DeadLetters, checked_dead_letters
from .reader import Reader
from .service import Connected
from .sieve import OnUnknown
from .stores import CursorStore, Position, bound
from .storing import Storer, found
from .tasks import conclude, end
from .tenure import Tenure

Exclusive: TypeAlias = "bool | Literal['standby']"


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
        cursors: where the cursors are kept; None means in Redis, beside the streams.
        dead_letter: where entries go that do not decode, or whose handler failed for good: the key of a stream, or
            DeadLetters with more to say of it. None: they are given up, with a report.
        exclusive: whether it has to be the only one that reads this name: True refuses to start beside another one,
            "standby" waits, and takes over when that one ends, dies or hangs.
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
        exclusive: Exclusive = False,
        cursors: CursorStore | None = None,
        dead_letter: str | DeadLetters | None = None,
        hooks: Hooks | Iterable[Hooks] = (),
    ) -> None:
        self.streams: tuple[str, ...] = checked_streams(stream)
        self.name: str = checked_name(name)
        dead_letters = checked_dead_letters(dead_letter, self.streams)
        what = f"the subscriber {name!r}"
        super().__init__(what, name, redis, actions, on_unknown, hooks, dead_letters, on_gap)
        check_start(start)
        if not isinstance(commit, Commit):
            raise ConfigError(f"commit: Commit.each() or Commit.every() is wanted, not {commit!r}")
        if not isinstance(exclusive, bool) and exclusive != "standby":
            raise ConfigError(f"exclusive: False, True or 'standby' is wanted, not {exclusive!r}")
        self._start = start
        self._commit_policy = commit
        self._store = cursors
        self._cursors = self._new_cursors()
        self._places = [Place(cursor) for cursor in self._cursors.values()]
        self._tenure = self._new_tenure(standby=exclusive == "standby") if exclusive else None
        self._committers: dict[Cursor, Committer | Storer] = {}

    async def commit(self, event: Event) -> None:
        """Commit the event that was handed out last, without asking for the next; wait until that is stored.

        Raises:
            ValueError: it is another event.
            TimeoutError: it is not stored yet. It will be tried further.
            LeaseLost: another subscriber of this name reads now, so it cannot be stored.
        """
        self._check_counting()
        if self._tenure is not None and not self._tenure.reading:
            raise LeaseLost(self.name)
        keepers = self._keepers
        await super().commit(event)
        if self._keepers is not keepers and self._counting:
            raise LeaseLost(self.name)

    def _keeper_of(self, event: Event) -> Committer | Storer | None:
        cursor = self._cursors.get(event.stream)
        if cursor is None or not event.id or padded(event.id) > padded(cursor.handled):
            return None
        return self._committers[cursor]

    def _check_run(self, concurrency: int, batch: int) -> None:
        if self._store is not None and concurrency != 1:
            raise ConfigError(
                "concurrency: with `cursors` one event is handled after another, as each transaction passes all before "
                "it; batch has several in one"
            )

    @property
    def active(self) -> bool:
        """Whether this one reads: from start to close; an exclusive one, as long as it is sure that no other does."""
        return self._state == "started" and monotonic() < self._gate.until

    async def lag(self) -> dict[str, Lag]:
        """How far the handled position is behind the end of each stream.

        Raises:
            EventsError: the server cannot be asked at the moment.
        """
        self._check_started()
        return {each.cursor.stream: await ask_lag(each, self._link, self._patience) for each in self._places}

    @property
    def _standing_by(self) -> bool:
        return self._state == "started" and self._tenure is not None and not self._tenure.reading

    # --- life ---

    def _new_tenure(self, *, standby: bool) -> Tenure:
        return Tenure(
            self._link,
            self.name,
            self._present_cursors,
            self._take_over,
            self._shut,
            self._gate,
            standby=standby,
            backoff=self._backoff,
            observers=self._observers,
            stored=None if self._store is None else self._stored,
        )

    async def _stored(self) -> dict[str, Reply]:
        assert self._store is not None
        replies: dict[str, Reply] = {}
        for cursor in self._cursors.values():
            assert isinstance(cursor, Position)
            id = await found(self._store, cursor, self._patience)
            replies[cursor.stream] = None if id is None else id.encode()
        return replies

    def _present_cursors(self) -> Iterable[Cursor]:
        return self._cursors.values()

    def _new_cursors(self) -> Mapping[str, Cursor]:
        if self._store is not None:
            return bound(self._store, self, self.name, self.streams)
        return {stream: Cursor(self.name, stream) for stream in self.streams}

    def _open(self) -> list[Reader]:
        if self._tenure is not None:
            self._tenure.fence(list(self._cursors.values()))
        # Two streams of a cluster may be on two servers.
        groups = [[each] for each in self._places] if self._link.sharded else [self._places]
        return [self._reader(group) for group in groups]

    def _reader(self, places: list[Place]) -> Reader:
        cursors = [place.cursor for place in places]
        settings = self._settings()
        fenced = self._tenure.look if self._tenure is not None else _nothing
        committer: Committer | Storer
        if self._store is None:
            committer = Committer(
                self._link, cursors, self._commit_policy, self._settle_finished, fenced, **settings
            )
        else:
            positions = [cursor for cursor in cursors if isinstance(cursor, Position)]
            committer = Storer(
                self._store, positions, self._commit_policy, self._settle_finished, self._gate, **settings
            )
        self._committers |= dict.fromkeys(cursors, committer)
        self._keepers.append(committer)

        async def begin(reading: Channel) -> None:
            if all(place.id for place in places):
                return
            storing = await committer.storing()
            if self._tenure is None or self._tenure.reading:
                await attach(places, self._start, reading, storing, self._link.where)
            else:
                await look(cursors, reading, storing, self._link.where)

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

    async def _before(self) -> None:
        if self._tenure is not None:
            await self._tenure.start()

    async def _launch(self) -> None:
        if self._tenure is None or self._tenure.reading:
            self._spawn()
        else:
            await self._shut()
        if self._tenure is not None:
            self._holding = [self._task(self._tenure)]

    def _fail(self, error: Exception) -> None:
        if self._tenure is not None or isinstance(error, LeaseLost):
            self._gate.fail(error)
        super()._fail(error)

    def _take_over(self) -> None:
        self._sources = self._open()
        self._spawn()

    async def _shut(self) -> None:
        """Read and store no more, and forget what was fetched."""
        for task in self._tasks:
            task.remove_done_callback(self._ended)
        self._abandon()
        parts = super()._connected()
        self._cursors = self._new_cursors()
        self._places = [Place(cursor) for cursor in self._cursors.values()]
        self._committers, self._keepers = {}, []
        self._gate.bar(False)
        await end(self._tasks)
        self._intake.clear()  # of what came in the meantime
        await conclude([part.disconnect() for part in parts])
        self._sources, self._reading, self._tasks = (), [], []

    async def _withdraw(self) -> None:
        if self._tenure is not None:
            await self._tenure.withdraw()

    async def _conclude(self, at_work: Collection[str]) -> None:
        await super()._conclude(at_work)
        if self._tenure is not None:
            await self._tenure.leave(at_work)

    def _connected(self) -> list[Connected]:
        return [*super()._connected(), *([] if self._tenure is None else [self._tenure])]


def _nothing() -> None:
    pass
