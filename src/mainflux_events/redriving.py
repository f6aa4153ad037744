"""Dead letters sent on, when what was wrong is mended.

That may be interrupted at any moment and done again: what was sent on is no dead letter any more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

import msgspec

from .deadletters import MOST_WORDS, DeadLetter
from .dispatch import Dispatch, Handler
from .errors import ConfigError, DecodeError, HandlerFailed
from .hooks import Observers, logger
from .letterbox import PATIENCE, Ask, Filter, asking, delete, entries_of, last_id, pages
from .link import Link, Server
from .policies import Retry, text
from .resp import command, pairs_of

# About so many bytes are moved in one step of the server.
MOVE_BYTES: Final = 1024 * 1024

# Moves entries, in one step: KEYS from where, to where; ARGV in turn the ID of each and how many of its names and
# values stay. One that is not there any more was moved before. Gives how many were moved.
_MOVE: Final = """
local moved = 0
for n = 1, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[n], ARGV[n])[1]
  if entry then
    redis.call('XADD', KEYS[2], '*', unpack(entry[2], 1, tonumber(ARGV[n + 1])))
    redis.call('XDEL', KEYS[1], ARGV[n])
    moved = moved + 1
  end
end
return moved
"""

# Ends the way of an entry that was not moved in one step: KEYS from where, and the mark; ARGV its ID.
_SETTLE: Final = """
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
"""


class Redriven(msgspec.Struct, frozen=True):
    """What became of dead letters.

    Attributes:
        redriven: appended to a stream, or handled; they are no dead letters any more.
        failed: they stay, as their handler raised, they do not decode, or it is not known from which stream they are.
    """

    redriven: int
    failed: int


async def redrive(
    redis: Server,
    dead_letters: str,
    *,
    to: str | Handler | None = None,
    ids: Iterable[str] | None = None,
    where: Filter | None = None,
) -> Redriven:
    """Send dead letters on, in their order: those that there are when it begins.

    Into a stream goes the entry as it was, byte for byte, at the end and under a new ID: all subscribers of that
    stream see it. Where the two streams are in one slot of a cluster, and without one always, an entry is moved in one
    step, so that it arrives exactly once however often this is interrupted and called again; apart, see the page on
    subscribing.

    Args:
        redis: a URL, or a client of redis.asyncio, as for a Subscriber.
        dead_letters: the key of their stream.
        to: the key of a stream; None for the stream that each is from; or a handler, as for `Subscriber.run`, which is
            called once for each event. Where it returns, the dead letter is deleted; where it raises, it stays, and
            the next one follows.
        ids: only these, by their own IDs.
        where: only those for which this says so.

    Raises:
        ConfigError: an argument that cannot work.
        EventsError: the server cannot be asked, or refuses. What was redriven by then, stays so.
    """
    if to is not None and not callable(to):
        text("to", to)
    if to == dead_letters:
        raise ConfigError(f"to: {to!r} are the dead letters themselves; choose another stream")
    link = Link(redis, PATIENCE)
    async with asking(link, dead_letters) as ask:
        drive = _ToHandler(ask, dead_letters, to) if callable(to) else _ToStreams(ask, dead_letters, to, link)
        async for page in pages(link, dead_letters, ids, where):
            await drive.take(page)
    return Redriven(drive.redriven, drive.failed)


class _Drive(ABC):
    """Where dead letters go."""

    def __init__(self, ask: Ask, dead_letters: str) -> None:
        self._ask = ask
        self._dead_letters = dead_letters
        self.redriven = self.failed = 0

    @abstractmethod
    async def take(self, letters: list[DeadLetter]) -> None:
        """Send these on."""


class _ToHandler(_Drive):
    def __init__(self, ask: Ask, dead_letters: str, handler: Handler) -> None:
        super().__init__(ask, dead_letters)
        once = Retry(attempts=1)
        self._dispatch = Dispatch(
            handler, retry=once, timeout=None, on_failure="raise", observers=Observers(())
        )

    async def take(self, letters: list[DeadLetter]) -> None:
        for letter in letters:
            try:
                await self._dispatch.handle(letter.event())
            except HandlerFailed:
                self.failed += 1  # which was logged
            except (DecodeError, ConfigError) as error:
                self.failed += 1
                logger.warning("redrive_failed: %s of %r: %s", letter.id, self._dead_letters, error)
            else:
                await self._ask(self._dead_letters, delete(self._dead_letters, [letter]))
                self.redriven += 1


class _ToStreams(_Drive):
    def __init__(self, ask: Ask, dead_letters: str, to: str | None, link: Link) -> None:
        super().__init__(ask, dead_letters)
        self._to = to
        self._link = link
        self._mark = _Mark(ask, dead_letters)

    async def take(self, letters: list[DeadLetter]) -> None:
        for (target, together), group in groupby(letters, self._way):
            if not target:
                for letter in group:
                    self.failed += 1
                    logger.warning(
                        "redrive_failed: %s of %r does not say where it is from",
                        letter.id,
                        self._dead_letters,
                    )
            elif together:
                for some in _cut(group):
                    self.redriven += await self._move(target, some)
            else:
                for letter in group:
                    await self._move_apart(target, letter)
                    self.redriven += 1

    def _way(self, letter: DeadLetter) -> tuple[str, bool]:
        """Where to, and whether in one step."""
        target = letter.stream if self._to is None else self._to
        short = 2 * len(letter.raw) <= MOST_WORDS
        return target, short and self._link.together(self._dead_letters, target)

    async def _move(self, target: str, letters: list[DeadLetter]) -> int:
        places = [word for letter in letters for word in (letter.id, 2 * len(letter.raw))]
        packed = command("EVAL", _MOVE, 2, self._dead_letters, target, *places)
        moved = await self._ask(self._dead_letters, packed)
        assert isinstance(moved, int)
        return moved

    async def _move_apart(self, target: str, letter: DeadLetter) -> None:
        if not await self._mark.arrived(letter, target):
            await self._mark.set(letter, target)
            fields = [part for pair in letter.raw for part in pair]
            await self._ask(target, command("XADD", target, "*", *fields))
        await self._mark.settle(letter)


class _Mark:
    """Which dead letter is on its way to another server, and what was the last entry there before.

    It is a key beside the dead letters, for whoever goes on after an interruption to find out whether that letter has
    arrived.
    """

    def __init__(self, ask: Ask, dead_letters: str) -> None:
        self._ask = ask
        self._dead_letters = dead_letters
        self._key = _beside(dead_letters)
        self._looked = False
        self._left: tuple[str, str] | None = None
        self._after = ""

    async def arrived(self, letter: DeadLetter, target: str) -> bool:
        """Whether an earlier call has appended it to the target, and was interrupted then."""
        if not self._looked:
            await self._look()
        if self._left != (letter.id, target):
            return False
        while entries := await entries_of(self._ask, target, f"({self._after}", "+"):
            if any(pairs_of(fields) == letter.raw for _, fields in entries):
                return True
            self._after = entries[-1][0].decode()
        return False

    async def _look(self) -> None:
        mark = await self._ask(self._dead_letters, command("GET", self._key))
        if isinstance(mark, bytes):
            id, self._after, target = mark.decode().split(" ", 2)
            self._left = id, target
        self._looked = True

    async def set(self, letter: DeadLetter, target: str) -> None:
        """It is about to be appended."""
        last = await last_id(self._ask, target)
        await self._ask(self._dead_letters, command("SET", self._key, f"{letter.id} {last} {target}"))

    async def settle(self, letter: DeadLetter) -> None:
        """It has arrived, and is no dead letter any more."""
        await self._ask(
            self._dead_letters, command("EVAL", _SETTLE, 2, self._dead_letters, self._key, letter.id)
        )


def _beside(key: str) -> str:
    """A key for the mark, in the same slot."""
    tag, closed, _ = key.partition("{")[2].partition("}")
    return f"mainflux:redrive:{key}" if tag and closed else f"mainflux:redrive:{{{key}}}"


def _cut(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """The same, in portions of about so many bytes."""
    portion: list[DeadLetter] = []
    size = 0
    for letter in letters:
        portion.append(letter)
        size += sum(len(name) + len(value) for name, value in letter.raw)
        if size >= MOVE_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
