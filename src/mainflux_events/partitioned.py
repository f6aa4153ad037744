"""Subscribing to partitions: each is read by one of the consumers of a name at a time, with a cursor of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Collection, Hashable, Iterable
from functools import partial

from . import lease
from .attach import InRedis, ask_lag, attach
from .commits import Committer
from .consumer import Consumer
from .cursor import Cursor, Lag, Start, check_start, checked_name, cursor_key, padded
from .desk import Desk
from .dispatch import key_of
from .errors import LeaseLost
from .events import Action, Event
from .gaps import Place
from .hooks import Hooks
from .lease import Lease, lease_key
from .link import Channel, Disconnected, Server, Unreachable
from .notices import OnGap
from .partitions import Agreement, partition_streams
from .policies import Commit, DeadLetters, checked_dead_letters, instance
from .reader import Reader
from .refusals import Refusal
from .service import Connected
from .shares import Members
from .sharing import Sharing
from .sieve import OnUnknown
from .tasks import together
from .tenancy import PartitionCommitter, PartitionTenancy


class PartitionedSubscriber(Consumer):
    """Consumes the events of a share of a stream's partitions, which is shared out among all that have the same name.

        subscriber = PartitionedSubscriber("redis://localhost:6379/0", "mainflux.things", "audit", partitions=16)
        async with subscriber:
            async for event in subscriber:  # those of one key in order, and nowhere else at the same time
                ...

    When a consumer comes, goes or dies, partitions move: one that is handed over, when the event in hand is finished
    and that is stored.

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`), or a client of redis.asyncio, of which only the connection
            settings or the discovery are taken.
        stream: the name of the stream that the publishers give.
        name: of all consumers that share the partitions; each partition's cursor is stored in the key
            `mainflux:cursor:<name>:{<stream>:<number>}`.
        partitions: how many there are; the publishers' number.
        start: where to begin where no cursor is stored: "new" at the end of each partition, "earliest", behind the
            entry of an ID, at a datetime, or at a timedelta back from now.
        actions: the classes to decode; None means all that are known. Entries of others are passed over.
        commit: when the cursors are stored.
        on_gap: what becomes of it that entries were removed before they were read, or that a stream is another one than
            it was: "report", by hooks, log and counts, or "raise" StreamGap and StreamReset as well; iterating again
            goes on behind it.
        on_unknown: what becomes of an operation that no class is known for: "skip", or "yield" an UnknownAction.
        dead_letter: where entries go that do not decode, or whose handler failed for good: the key of a stream, or
            DeadLetters with more to say of it. None: they are given up, with a report.
        hooks: what is told of failures, skips and the like.

    Attributes:
        streams: the keys of all partitions.

    Raises:
        ConfigError: an argument that cannot work, EmptyStream and EmptyName among them.
    """

    def __init__(
        self,
        redis: Server,
        stream: str,
        name: str,
        *,
        partitions: int,
        start: Start = "new",
        actions: Iterable[type[Action]] | None = None,
        commit: Commit = Commit.each(),
        on_gap: OnGap = "report",
        on_unknown: OnUnknown = "skip",
        dead_letter: str | DeadLetters | None = None,
        hooks: Hooks | Iterable[Hooks] = (),
    ) -> None:
        self.streams: tuple[str, ...] = partition_streams(stream, partitions)
        self.name: str = checked_name(name)
        dead_letters = checked_dead_letters(dead_letter, self.streams)
        what = f"the subscriber {name!r}"
        super().__init__(what, name, redis, actions, on_unknown, hooks, dead_letters, on_gap)
        check_start(start)
        instance("commit", commit, Commit)
        self._start = start
        self._commit_policy = commit
        self._agreement = Agreement(self._link, stream, partitions, self._patience)
        self._members_key = f"mainflux:members:{name}:{stream}"
        self._tenancies: dict[str, PartitionTenancy] = {}
        self._desks: list[Desk] = []
        self._sharing: Sharing | None = None

    @property
    def assignment(self) -> tuple[int, ...]:
        """The numbers of the partitions that are this one's at the moment."""
        return tuple(number for number, stream in enumerate(self.streams) if stream in self._tenancies)

    @property
    def _standing_by(self) -> bool:
        return self._state == "started" and not self._tenancies

    async def lag(self) -> dict[str, Lag]:
        """How far the handled position is behind the end of each partition that is this one's at the moment.

        Raises:
            EventsError: the server cannot be asked at the moment.
        """
        self._check_started()
        places = [each.place for each in self._tenancies.values() if each.place.id]
        return {each.cursor.stream: await ask_lag(each, self._link, self._patience) for each in places}

    async def commit(self, event: Event) -> None:
        """Commit the event that was handed out last, without asking for the next; wait until that is stored.

        Raises:
            ValueError: it is another event.
            TimeoutError: it is not stored yet. It will be tried further.
            LeaseLost: its partition is another consumer's now, so it cannot be stored.
        """
        self._check_counting()
        instance("commit", event, Event)
        tenancy = self._tenancies.get(event.stream)
        if tenancy is None and event.stream in self.streams:
            raise LeaseLost(self.name, f"of {event.stream!r}, whose lease ended; its other partitions go on")
        await super().commit(event)
        if self._tenancies.get(event.stream) is not tenancy and self._counting:
            raise LeaseLost(self.name, f"of {event.stream!r}, whose lease ended; its other partitions go on")

    @staticmethod
    def _key_of(event: Event) -> Hashable:
        """The ID of what the action is about. Events whose action has none are in order in each partition."""
        key = key_of(event)
        return event.stream if key is None else key

    def _keeper_of(self, event: Event) -> Committer | None:
        tenancy = self._tenancies.get(event.stream)
        if tenancy is None or not event.id or padded(event.id) > padded(tenancy.handled):
            return None
        return tenancy.committer

    # --- partitions that come and go ---

    def _enter(self, stream: str, held: Lease, stir: Callable[[], None]) -> PartitionTenancy:
        cursor = Cursor(self.name, stream)
        cursor.fence(held.key, held.token)
        place = Place(cursor)
        settings = self._settings()
        committer = PartitionCommitter(
            self._link, [cursor], self._commit_policy, self._settle_finished, stir, **settings
        )

        async def begin(reading: Channel) -> None:
            if not place.id:
                await attach([place], self._start, reading, await committer.storing(), self._link.where)

        reader = Reader(
            self._link,
            [place],
            committer,
            begin,
            self._notices,
            committer.go_back,
            self._intake.inbox,
            **settings,
        )
        tenancy = self._tenancies[stream] = PartitionTenancy(
            place,
            reader,
            committer,
            self._task(reader),
            self._task(committer),
            withdraw=partial(self._withdraw_from, stream, stir),
            forget=partial(self._leave, stream),
        )
        self._rearrange()
        return tenancy

    def _rearrange(self) -> None:
        """Other partitions are read: so are other parts at work."""
        tenancies = list(self._tenancies.values())
        self._sources = [each.reader for each in tenancies]
        self._keepers = [each.committer for each in tenancies]
        self._reading = [each.reading for each in tenancies]
        self._tasks = [*self._reading, *(each.storing for each in tenancies)]

    def _changed(self) -> None:
        """Leases were renewed, or come or gone: events may be handed out as long as all are held."""
        self._gate.open(min(each.until for each in self._desks))

    def _withdraw_from(self, stream: str, stir: Callable[[], None]) -> bool:
        """Read and hand out no more of a stream. Gives whether nothing of it is in hand; `stir` is called when so."""
        tenancy = self._tenancies[stream]
        self._cancel(tenancy.reading)
        self._intake.drop(stream)
        tenancy.committer.told = stir
        if self._hand_out_no_more(stream):
            self._forget(stream)
            return True
        return False

    def _hand_out_no_more(self, stream: str) -> bool:
        """Let no more of a stream be handled than has to be. Gives whether nothing of it is in hand."""
        if self._workers is not None:
            return self._workers.withdraw(stream)
        if not self._works_on(stream):
            return True
        del self._events[self._place :]
        self._stop = 0
        return False

    def _works_on(self, stream: str) -> bool:
        """Whether a loop, or a handler for one event after another, may be at work on an event of this stream."""
        run = self._run
        if run is None or run.track.stream != stream or self._owner is None:
            return False
        return self._in_hand or (self._unreadable is not None and self._asking)

    def _leave(self, stream: str) -> None:
        """A partition is not this consumer's any more."""
        tenancy = self._tenancies.pop(stream)
        self._cancel(tenancy.reading)
        self._cancel(tenancy.storing)
        self._forget(stream)
        self._rearrange()

    def _cancel(self, task: asyncio.Task[None]) -> None:
        task.remove_done_callback(self._ended)
        task.cancel()

    def _forget(self, stream: str) -> None:
        """Forget what was fetched of a stream, and what is in hand."""
        self._intake.drop(stream)
        self._settle_finished()
        if self._workers is not None:
            self._workers.drop(stream)
            self._let_go.set()
        if self._run is not None and self._run.track.stream == stream:
            self._gate.end_turn()
            self._forget_run()

    def _left(self, _: object) -> None:
        super()._left(_)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stir)

    def _stir(self) -> None:
        for desk in self._desks:
            desk.stir()

    # --- life ---

    def _open(self) -> list[Reader]:
        # Not before: a name made earlier would be that of all processes which were forked since.
        me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        leases = {stream: Lease(lease_key(cursor_key(self.name, stream))) for stream in self.streams}
        # Two partitions of a cluster may be on two servers.
        servers = [[stream] for stream in self.streams] if self._link.sharded else [list(self.streams)]
        self._desks = [
            Desk(
                self._link,
                self.name,
                {stream: leases[stream] for stream in streams},
                self._attach,
                self._enter,
                self._changed,
                self._observers,
            )
            for streams in servers
        ]
        members = Members(self._members_key, me, lease.TTL)
        self._sharing = Sharing(self._link, members, self.streams, self._desks, self._observers)
        return []

    async def _attach(self, streams: list[str], channel: Channel) -> None:
        await self._agreement.check()
        places = [Place(Cursor(self.name, stream)) for stream in streams]
        storing = InRedis(channel, self._link.where)
        await attach(places, self._start, channel, storing, self._link.where)

    async def _begin(self) -> None:
        await super()._begin()
        assert self._sharing is not None
        await self._agreement.check()
        passing = (Unreachable, Disconnected, Refusal)
        await together([desk.check() for desk in self._desks], passing)
        await self._sharing.check()

    async def _launch(self) -> None:
        assert self._sharing is not None
        self._holding = [self._task(self._sharing), *map(self._task, self._desks)]

    def _end(self) -> None:
        super()._end()
        if self._sharing is not None:
            self._sharing.close()

    async def _conclude(self, at_work: Collection[str]) -> None:
        await super()._conclude(at_work)
        if self._sharing is not None:
            await self._sharing.leave(at_work)

    def _connected(self) -> list[Connected]:
        return [*super()._connected(), *self._desks, *([] if self._sharing is None else [self._sharing])]
