"""One of the two servers of a copy: asked until it answers, or only once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ...errors import AccessRefused, ConfigError, EventsError
from ...hooks import Observers
from ...line import TROUBLE, Line
from ...link import Channel, Link, Reply
from ...policies import Backoff
from ...refusals import Refusal, refuse_access

# Seconds that the server may be silent.
PATIENCE: Final = 5.0

T = TypeVar("T")


class Side:
    """Asks one server.

    Args:
        link: where it is.
        key: the key that tells which server of a cluster.
        what: what is done there: "read" or "append".
        rights: which are needed.

    Attributes:
        persistent: whether an outage is waited for; else it is an error.
    """

    persistent: bool = False

    def __init__(self, link: Link, key: str, *, what: str, rights: str) -> None:
        self.where: str = link.where
        self.key: str = key
        self._rights = rights
        self.line: Line = Line(
            link,
            key,
            stream=key,
            what=what,
            backoff=Backoff(),
            patience=PATIENCE,
            observers=Observers(()),
        )

    async def ask(self, packed: bytes, wanted: int, *, probes: int = 0) -> list[Reply]:
        """Packed commands, which may be executed twice, sent until none is refused. Gives the replies.

        Args:
            packed, wanted: the commands, and how many they are.
            probes: so many of the first are refused in any case: they are there for the rights.

        Raises:
            EventsError: they cannot be sent, or are refused, and that is not waited for.
        """

        async def attempt(channel: Channel) -> list[Reply]:
            return await self.exchange(channel, packed, wanted, probes)

        return await self.persist(attempt)

    async def persist(self, attempt: Callable[[Channel], Awaitable[T]]) -> T:
        """Make an attempt over the connection, and another one where it meets with trouble.

        Raises:
            EventsError: it did, and that is not waited for.
        """
        while True:
            try:
                result = await attempt(await self.line.channel())
            except TROUBLE as trouble:
                await self.rest(trouble)
            else:
                self.line.worked()
                return result

    async def exchange(self, channel: Channel, packed: bytes, wanted: int, probes: int = 0) -> list[Reply]:
        """Packed commands over this connection, once. Raises what is in `TROUBLE`."""
        replies = await channel.exchange(packed, wanted)
        for place, reply in enumerate(replies):
            refuse_access(reply, self.where, f"what this needs on {self.key!r}", self._rights)
            # That a stream is not there is an answer.
            if place >= probes and isinstance(reply, Refusal) and "no such key" not in reply.text:
                raise reply
        return replies

    async def rest(self, trouble: Exception) -> None:
        """Wait until the next attempt is due, or give up.

        Raises:
            EventsError: an outage is not waited for.
        """
        assert isinstance(trouble, TROUBLE)
        if self.persistent:
            await self.line.rest(trouble)
        elif isinstance(trouble, AccessRefused | ConfigError):
            raise trouble
        else:
            said = str(trouble)
            place = "" if self.where in said else f"{self.where}: "
            raise EventsError(
                f"{place}{said}; what was done by then stays, and the same command goes on there"
            )

    async def aclose(self) -> None:
        """End the connection."""
        await self.line.disconnect()
