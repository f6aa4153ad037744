"""Leases on one server: asked for, renewed and let go together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from time import monotonic
from typing import Final

from . import answers
from .errors import ConfigError
from .hooks import Observers, logger
from .lease import Lease
from .line import Line
from .link import Link, Reply
from .policies import Backoff
from .refusals import Refusal, refuse_access

# Seconds that the server may be silent before another connection is made: there has to be time left to renew on that.
SILENCE: Final = 2.0


def report_kept(name: str, streams: Iterable[str]) -> None:
    """Of these streams something is being handled still, so leases are not let go on closing."""
    streams = ", ".join(sorted(streams))
    logger.warning(
        "lease_kept: %r leaves the lease of %s to run out, as events of it are handled", name, streams
    )


_RIGHTS: Final = "an exclusive subscriber needs +get +set +pexpire +pttl +eval on the key of its lease, too"


class Holding:
    """Leases on one server, and the connection to it.

    Args:
        link: where to connect to.
        leases: by the streams that they are about.
        backoff: the waits between attempts.
        observers: who is told.
    """

    def __init__(self, link: Link, leases: dict[str, Lease], backoff: Backoff, observers: Observers) -> None:
        self.leases = leases
        self.line: Line = Line(
            link,
            next(iter(leases.values())).key,
            stream=",".join(leases),
            what="lease",
            backoff=backoff,
            patience=SILENCE,
            observers=observers,
        )

    async def check(self) -> None:
        """Raise AccessRefused or ConfigError for what can never work."""
        replies = await self.ask([lease.check() for lease in self.leases.values()], answers.okay)
        for lease, reply in zip(self.leases.values(), replies, strict=True):
            what = f"EVAL with GET, SET, PEXPIRE and PTTL on {lease.key!r}"
            refuse_access(reply, self.line.where, what, _RIGHTS)
            if isinstance(reply, Refusal) and reply.code == "WRONGTYPE":
                raise ConfigError(
                    f"{self.line.where}: {lease.key!r} holds something else than a lease; delete it"
                )

    async def acquire(self, streams: Collection[str] | None = None) -> dict[str, int]:
        """Ask for the leases of these streams; None for all.

        Gives the streams whose leases somebody else holds, and the milliseconds that are left.
        """
        asked, leases = monotonic(), self._of(streams)
        replies = await self.ask([lease.acquire() for lease in leases.values()], answers.left)
        for lease, reply in zip(leases.values(), replies, strict=True):
            lease.acquired(reply, asked)
        self._understood(replies)
        return {each: left for each, left in zip(leases, replies, strict=True) if isinstance(left, int)}

    async def renew(self, streams: Collection[str] | None = None) -> None:
        """Ask for another while, for these streams; None for all."""
        asked, leases = monotonic(), self._of(streams)
        replies = await self.ask([lease.renew() for lease in leases.values()], answers.flag)
        for lease, reply in zip(leases.values(), replies, strict=True):
            lease.renewed(reply, asked)
        self._understood(replies)

    async def release(self, streams: Collection[str] | None = None) -> None:
        """Let go what is held, of these streams; None for all."""
        if held := [lease for lease in self._of(streams).values() if lease.until]:
            await self.ask([lease.release() for lease in held], answers.flag)

    def _of(self, streams: Collection[str] | None) -> dict[str, Lease]:
        if streams is None:
            return self.leases
        return {stream: lease for stream, lease in self.leases.items() if stream in streams}

    async def ask(self, commands: Sequence[bytes], answer: Callable[[Reply], Reply]) -> list[Reply]:
        """Commands to this server, and their replies, refusals among them. What is none is raised."""
        channel = await self.line.channel()
        replies = [answer(reply) for reply in await channel.exchange(b"".join(commands), len(commands))]
        for reply in replies:
            if isinstance(reply, Refusal) and reply.is_nonsense:
                raise reply
        return replies

    def _understood(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, Refusal):
                raise reply
        self.line.worked()
