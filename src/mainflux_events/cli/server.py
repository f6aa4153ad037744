"""The server as commands see it: asked, and answering or refusing in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import typer
from redis.asyncio.cluster import RedisCluster

from ..errors import AccessRefused, ConfigError, EventsError
from ..link import Channel, Disconnected, Link, Reply, Unreachable
from ..link import Server as Place
from ..refusals import Refusal
from ..resp import command
from .output import note

# Seconds that connecting, and each answer, may take.
PATIENCE: Final = 5.0

# A command and its arguments.
Words: TypeAlias = "Sequence[str | bytes | int]"

# What a node of a cluster answers where another one has the key.
ELSEWHERE: Final = frozenset({"MOVED", "ASK"})

# Commands whose second word is a part of their name.
_WITH_SUBCOMMANDS: Final = {"ACL", "CLIENT", "CONFIG", "MEMORY", "OBJECT", "SCRIPT", "XGROUP", "XINFO"}


class Away(EventsError):
    """The server cannot be asked at the moment; a later attempt may succeed."""


class Server:
    """A server, over a connection that is made when something is asked, and made again where it has ended.

    Args:
        url: where it is.

    Attributes:
        where: the same in words, without the credentials.
        clustered: whether it is one node of a cluster, as far as it may be asked.

    Raises:
        typer.BadParameter: the URL cannot work.
    """

    def __init__(self, url: str) -> None:
        try:
            self._link = Link(url, PATIENCE)
        except ConfigError as error:
            raise typer.BadParameter(str(error), param_hint="--redis") from None
        self._channel: Channel | None = None
        self.where: str = self._link.where
        self.clustered: bool = False

    async def greet(self) -> None:
        """Ask whether it answers, and what it is.

        Raises:
            AccessRefused: the credentials are refused.
            EventsError: it does not answer.
        """
        pong, about = await self.ask_all([("PING",), ("INFO", "cluster")])
        if isinstance(pong, Refusal):
            raise self.refused(pong, ("PING",))
        if isinstance(about, bytes) and b"cluster_enabled:1" in about:
            self.clustered = True
            self.where += ", one node of a cluster"

    async def ask(self, *words: str | bytes | int) -> Any:
        """One command. Gives its reply, bytes, a number, a list or None.

        Raises:
            AccessRefused: the rights are missing.
            EventsError: the server cannot be asked, or refuses.
        """
        [reply] = await self.ask_all([words])
        if isinstance(reply, Refusal):
            raise self.refused(reply, words)
        return reply

    async def ask_all(self, commands: Sequence[Words]) -> list[Reply]:
        """Several commands, in one write. Gives their replies; refusals are among them, to be looked at.

        Raises:
            Away: the server cannot be asked.
        """
        if not commands:
            return []
        try:
            channel = await self._open()
            return await channel.exchange(b"".join(map(_packed, commands)), len(commands))
        except Unreachable as error:
            raise Away(str(error)) from None
        except Disconnected as error:
            raise Away(f"{self.where}: {error}") from None

    def refused(self, reply: Refusal, words: Words) -> EventsError:
        """What to raise where a command was refused."""
        name = command_name(words)
        if reply.code == "NOPERM":
            right = name.lower().replace(" ", "|")
            return AccessRefused(
                self.where, f"the user may not run {name} (NOPERM): it needs +{right}, on its keys"
            )
        if reply.code in ELSEWHERE:
            node = reply.text.rpartition(" ")[2]
            return EventsError(
                f"{self.where}: {name}: the key is on the node {node}: give that one by --redis"
            )
        if reply.code == "CROSSSLOT":
            return EventsError(
                f"{self.where}: {name}: these streams are in several slots: name one of them, by --stream"
            )
        return EventsError(f"{self.where}: {name}: {reply}")

    async def _open(self) -> Channel:
        if self._channel is not None and not self._channel.alive:
            await self.aclose()
        if self._channel is None:
            self._channel = await self._link.open("", PATIENCE)
        return self._channel

    async def aclose(self) -> None:
        """End the connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.aclose()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Server]:
    """A server that answers. The connection ends with this.

    Raises:
        typer.BadParameter: the URL cannot work.
        AccessRefused: the credentials are refused.
        EventsError: nobody answers.
    """
    server = Server(url)
    try:
        await server.greet()
        yield server
    finally:
        await server.aclose()


def note_the_rest(server: Server) -> None:
    """Say on stderr that there is more than what is asked for here, where that is so."""
    if server.clustered:
        note(f"{server.where}: what the others hold is not shown; ask each of them, by --redis")


@asynccontextmanager
async def reaching_all(url: str) -> AsyncIterator[Place]:
    """A server that answers, for publishers: its URL, or a client of the cluster that it is a node of.

    Raises: what `connected` does.
    """
    async with connected(url) as server:
        if not server.clustered:
            yield url
            return
        async with RedisCluster.from_url(url) as cluster:
            yield cluster


def _packed(words: Words) -> bytes:
    # A lone surrogate stands for a byte that is no UTF-8, as in the name of a key.
    return command(
        *(word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in words)
    )


def command_name(words: Words) -> str:
    """The name of a command: `XADD`, `XINFO STREAM`."""
    return " ".join(map(str, words[: 2 if words[0] in _WITH_SUBCOMMANDS else 1]))


def named(reply: Any) -> dict[str, Any]:
    """A reply of names and values in turn, such as those of XINFO, by its names."""
    parts = iter(reply)
    return {name.decode(): value for name, value in zip(parts, parts, strict=True)}
