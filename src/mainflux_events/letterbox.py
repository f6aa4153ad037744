"""The dead letters that there are: read, and thrown away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from .cursor import FIRST, padded, parse_id
from .deadletters import DeadLetter, opened
from .errors import ConfigError, EventsError
from .link import Channel, Disconnected, Link, Reply, Server, Unreachable
from .policies import text
from .refusals import Refusal, refuse_access
from .resp import command
from .tasks import conclude

Filter: TypeAlias = "Callable[[DeadLetter], bool]"

# Seconds that the server may take to answer.
PATIENCE: Final = 5.0

# So many are read at a time.
PAGE: Final = 100


async def read_dead_letters(
    redis: Server, dead_letters: str, *, ids: Iterable[str] | None = None, where: Filter | None = None
) -> AsyncIterator[DeadLetter]:
    """The dead letters that there are, the oldest first.

    Args:
        redis: a URL, or a client of redis.asyncio, as for a Subscriber.
        dead_letters: the key of their stream.
        ids: only these, by their own IDs.
        where: only those for which this says so.

    Raises:
        ConfigError: an argument that cannot work.
        EventsError: the server cannot be asked, or refuses.
    """
    link = Link(redis, PATIENCE)
    async for page in pages(link, dead_letters, ids, where):
        for letter in page:
            yield letter


async def drop_dead_letters(
    redis: Server, dead_letters: str, *, ids: Iterable[str] | None = None, where: Filter | None = None
) -> int:
    """Delete dead letters, for good. The arguments and errors are those of `read_dead_letters`.

    Returns:
        How many were deleted.
    """
    link = Link(redis, PATIENCE)
    dropped = 0
    async with asking(link, dead_letters) as ask:
        async for page in pages(link, dead_letters, ids, where):
            if page:
                deleted = await ask(dead_letters, delete(dead_letters, page))
                assert isinstance(deleted, int)
                dropped += deleted
    return dropped


# --- asking --------------------------------------------------------------------------------------------------------

# Sends a command to the server of a key, and gives the reply.
Ask: TypeAlias = "Callable[[str, bytes], Awaitable[Reply]]"


@asynccontextmanager
async def asking(link: Link, dead_letters: str) -> AsyncIterator[Ask]:
    """What asks, over connections that end with this. Its troubles leave it as errors of this package."""
    channels: dict[str, Channel] = {}

    async def ask(key: str, packed: bytes) -> Reply:
        if key in channels and not channels[key].alive:
            await channels.pop(key).aclose()
        if key not in channels:
            channels[key] = await link.open(key, PATIENCE)
        [reply] = await channels[key].exchange(packed, 1)
        refuse_access(reply, link.where, f"what dead letters need on {key!r}", _RIGHTS)
        if isinstance(reply, Refusal):
            raise reply
        return reply

    try:
        yield ask
    except (Unreachable, Disconnected, Refusal) as trouble:
        raise EventsError(
            f"dead letters of {dead_letters!r}: {link.where}: {trouble}; what was done by then stays so, "
            "and the rest follows when this is called again"
        ) from None
    finally:
        if channels:
            await conclude([channel.aclose() for channel in channels.values()])


_RIGHTS: Final = (
    "to read them needs +xrange +xrevrange on their key, to drop them +xdel, to redrive them +eval and +xadd "
    "on both keys"
)


async def pages(
    link: Link, dead_letters: str, ids: Iterable[str] | None, where: Filter | None
) -> AsyncIterator[list[DeadLetter]]:
    """The dead letters that there are now, so many at a time. No connection stays open meanwhile."""
    text("dead_letters", dead_letters)
    if ids is None:
        async with asking(link, dead_letters) as ask:
            spans = [("-", await last_id(ask, dead_letters))]
    else:
        spans = [(id, id) for id in _checked(ids)]
    for start, end in spans:
        begins = start
        while True:
            async with asking(link, dead_letters) as ask:
                entries = await entries_of(ask, dead_letters, begins, end)
            letters = [opened(id, fields) for id, fields in entries]
            yield [letter for letter in letters if where is None or where(letter)]
            if len(letters) < PAGE:
                break
            begins = f"({letters[-1].id}"


def _checked(ids: Iterable[str]) -> list[str]:
    """The IDs of dead letters, in their order."""
    given = {ids} if isinstance(ids, str) else set(ids)
    for id in given:
        if not isinstance(id, str) or parse_id(id) is None:
            raise ConfigError(f"ids: IDs of dead letters are wanted, such as '1526919030474-55', not {id!r}")
    return sorted(given, key=padded)


async def entries_of(ask: Ask, stream: str, start: str, end: str) -> list[list[Any]]:
    entries = await ask(stream, command("XRANGE", stream, start, end, "COUNT", PAGE))
    assert isinstance(entries, list)
    return entries


async def last_id(ask: Ask, stream: str) -> str:
    last = await ask(stream, command("XREVRANGE", stream, "+", "-", "COUNT", 1))
    assert isinstance(last, list)
    return last[0][0].decode() if last else FIRST


def delete(dead_letters: str, letters: list[DeadLetter]) -> bytes:
    return command("XDEL", dead_letters, *(letter.id for letter in letters))
