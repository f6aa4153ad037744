"""Subscribing: read ahead, decode, hand out, commit.

One background task reads, one gets over the troubles of the connection that stores the cursors. What is in between,
decoding, handing out and committing, happens in the task that iterates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .attach import ask_lag, attach
from .commits import Committer
from .consumer import Consumer
from .cursor import Cursor, Lag, Start, check_start, checked_name, checked_streams, padded
from .errors import ConfigError
from .events import Action, Event
from .gaps import Place
from .hooks import Hooks
from .link import Channel, Server
from .notices import OnGap
from .policies import Commit, DeadLetters, checked_dead_letters
from .reader import Reader
from .sieve import OnUnknown


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
            DeadLetters with more to say of it. False: they are given up, with a report.
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
        dead_letter: str | DeadLetters | Literal[False] = False,
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
        self._start = start
        self._commit_policy = commit
        self._cursors = {stream: Cursor(name, stream) for stream in self.streams}
        self._places = [Place(cursor) for cursor in self._cursors.values()]
        self._committers: dict[Cursor, Committer] = {}

    def _keeper_of(self, event: Event) -> Committer | None:
        cursor = self._cursors.get(event.stream)
        if cursor is None or not event.id or padded(event.id) > padded(cursor.handled):
            return None
        return self._committers[cursor]

    async def lag(self) -> dict[str, Lag]:
        """How far the handled position is behind the end of each stream.

        Raises:
            EventsError: the server cannot be asked at the moment.
        """
        self._check_started()
        return {each.cursor.stream: await ask_lag(each, self._link, self._patience) for each in self._places}

    def _open(self) -> list[Reader]:
        # Two streams of a cluster may be on two servers.
        groups = [[each] for each in self._places] if self._link.sharded else [self._places]
        return [self._reader(group) for group in groups]

    def _reader(self, places: list[Place]) -> Reader:
        cursors = [place.cursor for place in places]
        settings = self._settings()
        committer = Committer(self._link, cursors, self._commit_policy, self._settle_finished, **settings)
        self._committers |= dict.fromkeys(cursors, committer)
        self._keepers.append(committer)

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
