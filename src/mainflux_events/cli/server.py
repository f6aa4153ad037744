"""The server as commands see it: asked, and answering or refusing in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import typer

from ..errors import AccessRefused, ConfigError, EventsError
from ..link import Channel, Disconnected, Link, Reply, Unreachable
from ..refusals import Refusal
from ..resp import command

# Seconds that connecting, and each answer, may take.
PATIENCE: Final = 5.0

# A command and its arguments.
Words: TypeAlias = "Sequence[str | bytes | int]"

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
        await server.ask("PING")
        yield server
    finally:
        await server.aclose()


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
