"""Subscribing in a consumer group: competing consumers, each event to one of them.

One background task reads what is new, one sees to what is pending, one gets over the troubles of the connection that
acknowledges.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Iterable
from typing import Final

from .acks import Acknowledger
from .claims import Claimer
from .consumer import Consumer
from .cursor import Lag, Start, check_start, checked_streams
from .errors import ConfigError
from .events import Action, Event
from .groups import GIVEN_BACK, GIVEN_BACK_MS, Member
from .hooks import Hooks
from .join import GroupReader
from .link import Server
from .pending import Pending, Share
from .policies import Commit, DeadLetters, checked_dead_letters, instance, positive, text, whole
from .service import Source
from .sieve import OnUnknown
from .standing import ask_lag, ask_pending

# What is held is renewed after this part of the time in which others would take it over.
RENEW_PART: Final = 1 / 3


class GroupSubscriber(Consumer):
    """Consumes the events of one or several streams together with others of the same group: each event goes to one.

        async with GroupSubscriber("redis://localhost:6379/0", "mainflux.things", "mailers") as subscriber:
            await subscriber.run(handler)

    Args:
        redis: a URL (`redis://`, `rediss://`, `unix://`), or a client of redis.asyncio, of which only the connection
            settings or the discovery are taken.
        stream: the key of a stream, or several.
        group: the consumer group, which is made where it is not.
        consumer: the name of this consumer, of which there may be no other in the group at the same time; None for
            one that is made of host, process and chance when it starts.
        start: where a new group begins: "new" at the end of the stream, "earliest", behind the entry of an ID, at a
            datetime, or at a timedelta back from now.
        actions: the classes to decode; None means all that are known. Entries of others are passed over.
        commit: when what is handled is acknowledged.
        on_unknown: what becomes of an operation that no class is known for: "skip", or "yield" an UnknownAction.
        claim_after: seconds that a consumer has to be silent before others take over what it has.
        max_deliveries: so many consumers may die, or fall silent, with an entry in hand before that counts as one that
            cannot be handled.
        dead_letter: where entries go that cannot be handled, as they do not decode, their handler failed for good, or
            too many consumers died with them: the key of a stream, or DeadLetters with more to say of it. False: they
            are given up, with a report.
        hooks: what is told of failures, skips and the like.

    Attributes:
        consumer: the name of this consumer; "" before the start, where none was given.

    Raises:
        ConfigError: an argument that cannot work, EmptyStream among them.
    """

    def __init__(
        self,
        redis: Server,
        stream: str | Iterable[str],
        group: str,
        *,
        consumer: str | None = None,
        start: Start = "new",
        actions: Iterable[type[Action]] | None = None,
        commit: Commit = Commit.each(),
        on_unknown: OnUnknown = "skip",
        claim_after: float = 30.0,
        max_deliveries: int = 5,
        dead_letter: str | DeadLetters | None = None,
        hooks: Hooks | Iterable[Hooks] = (),
    ) -> None:
        self.streams: tuple[str, ...] = checked_streams(stream)
        text("group", group)
        self.group: str = group
        dead_letters = checked_dead_letters(dead_letter, self.streams)
        what = f"the subscriber of the group {group!r}"
        super().__init__(what, group, redis, actions, on_unknown, hooks, dead_letters)
        if consumer is not None:
            text("consumer", consumer)
            if consumer == GIVEN_BACK:
                raise ConfigError(
                    f"consumer: {GIVEN_BACK!r} stands for what was given back; use another name"
                )
        check_start(start)
        instance("commit", commit, Commit)
        positive("claim_after", claim_after)
        if claim_after * 1000 >= GIVEN_BACK_MS:
            raise ConfigError(f"claim_after: it must be below a year, in seconds, not {claim_after!r}")
        whole("max_deliveries", max_deliveries, 2)
        self.consumer: str = consumer or ""
        self._start = start
        self._commit_policy = commit
        self._claim_after = claim_after
        self._max_deliveries = max_deliveries
        self._shares: dict[str, tuple[Share, Acknowledger]] = {}

    # --- looking ---

    async def lag(self) -> dict[str, Lag]:
        """How far the group is behind the end of each stream: what is not delivered, or not acknowledged.

        Raises:
            EventsError: the server cannot be asked at the moment.
        """
        self._check_started()
        shares = self._shares.values()
        return {share.stream: await ask_lag(share, keeper, self._link.where) for share, keeper in shares}

    async def pending(self) -> dict[str, dict[str, Pending]]:
        """What each consumer of the group was given and has not acknowledged, by stream and consumer.

        Raises:
            EventsError: the server cannot be asked at the moment.
        """
        self._check_started()
        shares = self._shares.values()
        return {share.stream: await ask_pending(share, keeper, self._link.where) for share, keeper in shares}

    # --- life ---

    def _open(self) -> list[Source]:
        # Not before: a name made earlier would be that of all processes which were forked since.
        self.consumer = self.consumer or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        # Two streams of a cluster may be on two servers.
        servers = [[stream] for stream in self.streams] if self._link.sharded else [list(self.streams)]
        return [source for streams in servers for source in self._sources_of(streams)]

    def _sources_of(self, streams: list[str]) -> list[Source]:
        shares = [self._share(stream) for stream in streams]
        settings = self._settings()
        keeper = Acknowledger(self._link, shares, self._commit_policy, self._settle_finished, **settings)
        self._keepers.append(keeper)
        self._shares |= {share.stream: (share, keeper) for share in shares}
        clear = asyncio.Event()
        inbox = self._intake.inbox
        reader = GroupReader(self._link, shares, keeper, self._start, clear, self._notices, inbox, **settings)
        claimer = Claimer(
            shares,
            keeper,
            self._claim_after,
            reader.ahead,
            clear,
            inbox,
            notices=self._notices,
            observers=self._observers,
        )
        return [reader, claimer]

    def _share(self, stream: str) -> Share:
        member = Member(stream, self.group, self.consumer)
        renew_after = self._claim_after * RENEW_PART
        return Share(member, renew_after=renew_after, max_deliveries=self._max_deliveries)

    def _keeper_of(self, event: Event) -> Acknowledger | None:
        share, keeper = self._shares.get(event.stream, (None, None))
        return None if share is None or not event.id or share.holds(event.id) else keeper
