"""The connections of one publisher to several streams: one for each server, shared by those whose streams are there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import TypeAlias

from .link import Channel, Link, Reply
from .refusals import Address


class Nodes:
    """In place of a `Link`, for several lines: gives each a connection that others may have, too.

    What one of them writes together stays together, and replies come in the order of the writing, so lines share a
    connection without a word between them. Its end is the end for all of them.

    Args:
        link: where to connect to.
        hold: seconds that an attempt which has failed speaks for all who want a connection to the same server: the
            least that each of them waits.

    Attributes:
        reconnects: connections made for a key that had one before.
    """

    def __init__(self, link: Link, hold: float) -> None:
        self._link = link
        self._hold = hold
        self._nodes: dict[str, _Node] = {}
        self._users: Counter[Channel] = Counter()
        self._served: set[str] = set()
        self.reconnects: int = 0

    @property
    def where(self) -> str:
        """The server, for messages."""
        return self._link.where

    def rediscover(self) -> None:
        """As `Link.rediscover`."""
        self._link.rediscover()

    async def open(self, key: str, patience: float, target: Address | None = None) -> Channel:
        """A connection to the server that holds this key: the one that is there, or a new one.

        Args:
            key, patience: as of `Link.open`.
            target: the same; what goes there is for one key, and has a connection to itself.

        Raises:
            AccessRefused, ConfigError, Unreachable: as `Link.open`.
        """
        made = True
        if target is not None:
            channel = await self._link.open(key, patience, target)
        else:
            place = await self._link.locate(key)
            node = self._nodes.setdefault(place.name, _Node(self._hold))
            channel, made = await node.join(partial(self._link.connect, place, patience))
        self._users[channel] += 1
        self.reconnects += made and key in self._served
        self._served.add(key)
        return channel

    async def release(self, channel: Channel) -> None:
        """Leave a connection. The last one ends it."""
        self._users[channel] -= 1
        if not self._users[channel]:
            del self._users[channel]
            await channel.aclose()


# Where a line has its connections from.
Way: TypeAlias = Link | Nodes


async def ask(way: Way, key: str, patience: float, packed: bytes) -> Reply:
    """One command, to the server that holds this key. Raises what `Link.open` does, and `Disconnected`."""
    channel = await way.open(key, patience)
    try:
        [reply] = await channel.exchange(packed, 1)
        return reply
    finally:
        await way.release(channel)


class _Node:
    """One server: its connection, and what came of the last attempt to make one."""

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._making = asyncio.Lock()
        self._channel: Channel | None = None
        self._failure: Exception | None = None
        self._until = 0.0

    async def join(self, connect: Callable[[], Awaitable[Channel]]) -> tuple[Channel, bool]:
        """The connection, and whether it was made for this one. Who comes while one is made waits for that."""
        async with self._making:
            if self._channel is not None and self._channel.alive:
                return self._channel, False
            if self._failure is not None and monotonic() < self._until:
                raise self._failure.with_traceback(None)
            self._failure = None
            try:
                self._channel = await connect()
            except Exception as error:
                self._failure, self._until = error, monotonic() + self._hold
                raise
            return self._channel, True
