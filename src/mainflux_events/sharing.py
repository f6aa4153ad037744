"""A consumer's share of the partitions: who the others are, and so what this one is to hold.

A partition is handled by the one who holds its lease. The share only says who is to ask for it, and who is to hand it
over; where consumers disagree on that for a while, nothing is handled twice for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence

from . import desk
from .desk import Desk
from .health import Condition
from .holding import SILENCE
from .hooks import Observers
from .line import TROUBLE, Line
from .link import Link
from .refusals import refuse_access
from .shares import NOBODY, Members, share_out

_COMMANDS = "EVAL with TIME, ZADD, ZRANGE, ZREMRANGEBYSCORE and PEXPIRE"
_RIGHTS = "partitions need +eval +time +zadd +zrem +zrange +zremrangebyscore +pexpire on this key"


class Sharing:
    """Says again and again that this consumer lives, and has the desks hold its share.

    Args:
        link: where to connect to.
        members: the consumers.
        streams: those of all partitions, in their order.
        desks: who hold the leases.
        observers: who is told.
    """

    def __init__(
        self,
        link: Link,
        members: Members,
        streams: Sequence[str],
        desks: Sequence[Desk],
        observers: Observers,
    ) -> None:
        self._members = members
        self._streams = streams
        self._desks = desks
        self._known: list[str] = []
        self._leaving = asyncio.Event()
        self._over = asyncio.Event()
        self._line = Line(
            link,
            members.key,
            stream=members.key,
            what="lease",
            backoff=desk.BACKOFF,
            patience=SILENCE,
            observers=observers,
        )

    @property
    def condition(self) -> Condition:
        """How the connection does."""
        return self._line.condition

    async def check(self) -> None:
        """Make the first attempt. Raises AccessRefused, ConfigError, or what may pass."""
        await self._attend()
        [reply] = await (await self._line.channel()).exchange(self._members.let_go(NOBODY), 1)
        refuse_access(reply, self._line.where, f"ZREM on {self._members.key!r}", _RIGHTS)

    async def run(self) -> None:
        """Go on, until `leave`."""
        try:
            while not self._leaving.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(desk.RENEW_EVERY):
                        await self._leaving.wait()
                        break
                try:
                    await self._attend()
                except TROUBLE as trouble:
                    await self._line.rest(trouble)
            with contextlib.suppress(*TROUBLE):
                await (await self._line.channel()).exchange(self._members.let_go(), 1)
        finally:
            self._over.set()

    async def _attend(self) -> None:
        channel = await self._line.channel()
        [reply] = await channel.exchange(self._members.attend(), 1)
        refuse_access(reply, self._line.where, f"{_COMMANDS} on {self._members.key!r}", _RIGHTS)
        members = self._members.attending(reply)
        self._line.worked()
        if members == self._known or self._leaving.is_set():
            return
        self._known = members
        share = share_out(len(self._streams), members)[self._members.me]
        mine = frozenset(self._streams[number] for number in share)
        for each in self._desks:
            each.assign(mine)

    def close(self) -> None:
        """Take on no further partitions."""
        for each in self._desks:
            each.close()

    async def leave(self, at_work: Collection[str]) -> None:
        """Let all partitions go but these, say that this consumer goes, and end `run`."""
        self._leaving.set()
        self._line.closing.set()
        await asyncio.gather(*(each.leave(at_work) for each in self._desks), self._over.wait())

    async def disconnect(self) -> None:
        """End the connection, where it does not run any more."""
        await self._line.disconnect()
