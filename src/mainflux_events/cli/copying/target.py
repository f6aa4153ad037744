"""The stream that a copy appends to, each entry once, however often that is interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from ... import answers
from ...cursor import padded
from ...deadletters import MOST_WORDS
from ...errors import ConfigError, EventsError
from ...link import Channel, Link, Reply
from ...refusals import Outlook, Refusal
from ...resp import command
from .lines import Entry
from .position import Position, Steps, appended
from .side import Side

_RIGHTS: Final = (
    "to append needs +xadd +type on the target's key, and +eval +get +set there and on that of the position, which "
    "begins with 'mainflux:mirror:', 'mainflux:replay:' or 'mainflux:load:'"
)


class Target(Side):
    """A stream that is appended to, and the position of the copy.

    Args:
        link: where it is.
        steps: the commands.

    Attributes:
        position: how far the copy is, from `begin` on.
    """

    position: Position

    def __init__(self, link: Link, steps: Steps) -> None:
        super().__init__(link, steps.target, what="append", rights=_RIGHTS)
        self._steps = steps

    async def stored(self) -> Position | None:
        """The position that is stored; None where there is none.

        Raises:
            ConfigError: the key of the target holds something else than a stream.
        """
        asked = command("XADD", self.key, "NOMKSTREAM", "0-0", "probe", "")
        asked += command("TYPE", self.key) + command("GET", self._steps.key)
        _, kind, found = await self.ask(asked, 3, probes=1)
        if isinstance(kind, bytes) and kind not in (b"stream", b"none"):
            raise ConfigError(f"{self.where}: the key {self.key!r} holds a {kind.decode()}, not a stream")
        return None if found is None else self._read(found)

    async def begin(self, id: str, *, anew: bool = False) -> None:
        """Go on where it is stored; behind this ID, where nothing is, or where it is to begin anew."""
        [found] = await self.ask(self._steps.begin(id, anew=anew), 1)
        self.position = self._read(found)

    async def append(self, entries: Sequence[Entry]) -> None:
        """Append entries, in this order.

        Raises:
            EventsError: that cannot be done. What was done before stays, and `position` tells how far it is.
        """
        left = list(entries)
        while left:
            some = list(takewhile(lambda entry: len(entry.fields) <= MOST_WORDS, left))
            done = await (self._append(some) if some else self._append_alone(left[0]))
            del left[:done]

    async def _append(self, entries: Sequence[Entry]) -> int:
        """Append some of these, as a script. Gives how many."""
        [reply] = await self.ask(self._steps.append(entries, self.position), 1)
        assert isinstance(reply, list)
        found, *refused = reply
        done = self._advance(found, entries)
        if refused and not done:
            await self._refused(Refusal(refused[0].decode("utf-8", "replace")), entries[0])
        return done

    async def _append_alone(self, entry: Entry) -> int:
        """Append one, as a transaction. Gives 0 where somebody else has appended in the meantime."""
        look, act = self._steps.alone(entry, self.position)

        async def attempt(channel: Channel) -> int:
            # What is watched, and what relies on that, has to go over one connection.
            _, found, info = await self.exchange(channel, look, 3)
            if done := self._advance(found, [entry]):
                return done
            last = answers.stream(info).last_generated_id.decode()
            if self._steps.keep_ids and padded(last) >= padded(entry.id):
                raise self._cannot_keep(entry)
            *_, executed = await self.exchange(channel, act, 4)
            if executed is None:
                return 0
            assert isinstance(executed, list)
            if isinstance(refusal := executed[0], Refusal):
                raise EventsError(
                    f"{self.where}: entry {entry.id} of {entry.stream!r} is left out: {refusal}"
                )
            return self._advance(self._steps.after(self.position, entry), [entry])

        return await self.persist(attempt)

    def _advance(self, found: Reply, entries: Sequence[Entry]) -> int:
        """Take the position that is stored now. Gives how many of the entries that were sent are before it."""
        position = self._read(found) if found is not None else None
        done = appended(self.position, position, entries, self._steps.what)
        if done is None:
            raise EventsError(
                f"{self.where}: the position {self._steps.key!r} was moved or deleted by somebody else: only one copy "
                "of a name may run; the same command goes on from what is stored there"
            )
        assert position is not None
        self.position = position
        return done

    async def _refused(self, refusal: Refusal, entry: Entry) -> None:
        """The next entry was refused by itself: wait, where that may pass."""
        if "equal or smaller" in refusal.text:
            raise self._cannot_keep(entry)
        if refusal.outlook is Outlook.VALUE:
            raise EventsError(f"{self.where}: entry {entry.id} of {entry.stream!r} is refused: {refusal}")
        await self.rest(refusal)

    def _cannot_keep(self, entry: Entry) -> EventsError:
        return EventsError(
            f"{self.where}: entry {entry.id} cannot keep its ID, for {self.key!r} has a later one already: "
            "--keep-ids is for a stream that nobody else appends to"
        )

    def _read(self, stored: Reply) -> Position:
        position = Position.of(stored) if isinstance(stored, bytes) else None
        if position is None:
            raise EventsError(
                f"{self.where}: {self._steps.key!r} holds no position of a copy: delete it, or give another --name"
            )
        return position
