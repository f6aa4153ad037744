"""What a consumer of a group holds of a stream: what to acknowledge, renew, take over and give up.

Pure decisions; the connections that carry them out are in `acks`, `claims` and `reader`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from itertools import chain, islice, takewhile
from typing import Final

import msgspec

from .answers import Taken
from .cursor import FIRST, Start, padded, resolve_start
from .entries import Entries
from .groups import Member
from .link import Reply
from .refusals import Refusal

# An entry with which so many consumers have died is handed out beside no other such entry: where one of them kills
# its process each time, the others are not to be counted with it.
ALONE_FROM: Final = 2

# So many are renewed by one script.
RENEWED_TOGETHER: Final = 500


class Pending(msgspec.Struct, frozen=True):
    """What one consumer of a group was given and has not acknowledged.

    Attributes:
        entries: how many.
        idle: seconds since the consumer last read or claimed anything.
    """

    entries: int
    idle: float


class Fetch(msgspec.Struct, frozen=True):
    """Entries to be asked for.

    Attributes:
        ids: of entries that are pending for this consumer.
        deliveries: how often each was delivered before.
        spent: whether that is too often.
    """

    ids: list[bytes]
    deliveries: int
    spent: bool


class Share:
    """What one consumer holds of one stream. A `Track`.

    The server counts how often each entry was delivered: once when it is read, and once more whenever it is handed out
    after that. Who gives it back takes that back too. So the count tells how many consumers died with it in hand.

    Args:
        member: the consumer.
        renew_after: seconds after which what is held is to be renewed.
        max_deliveries: delivered so often without being finished, an entry is given up.

    Attributes:
        stream, key: the stream.
        joined: whether the group is known to be there.
        position: the last entry known to have been delivered to anybody; "" before the group was ever seen.
        place: where looking for what others left goes on.
    """

    def __init__(self, member: Member, *, renew_after: float, max_deliveries: int) -> None:
        self.member: Member = member
        self.stream: str = member.stream
        self.key: str = member.stream
        self.joined: bool = False
        self.position: str = ""
        self.place: str = FIRST
        self._renew_after = renew_after
        self._max_deliveries = max_deliveries
        # When each entry was delivered, or renewed. Those that were found and are not fetched yet are among them.
        self._held: dict[bytes, float] = {}
        # How often what was found was delivered before; the same of what is fetched of it.
        self._found: dict[bytes, int] = {}
        self._before: dict[bytes, int] = {}
        self._alone = b""
        # What was read ahead, as long as some of it is held.
        self._ahead: list[Entries] = []
        # What is handled: to be acknowledged, and sent to be.
        self._due: list[bytes] = []
        self._unanswered: deque[list[bytes]] = deque()

    def begins(self, start: Start, last_id: str, now: datetime) -> str:
        """The ID behind which the group begins, where it is not there.

        Args:
            start: where to begin where no group was ever seen.
            last_id: the last ID that the stream has given.
            now: the time, for a timedelta.
        """
        if not self.position:
            return "$" if start == "new" else resolve_start(start, last_id, now)
        # What went on under the same name since the last entry was delivered is to be read; of a new stream, all.
        return FIRST if padded(self.position) > padded(last_id) else self.position

    def join(self, position: str) -> None:
        """The group is there; this is the last entry that was delivered to anybody."""
        self.joined = True
        self.position = position
        self.place = FIRST
        for id in self._found:  # of a group that is not there any more
            self._held.pop(id, None)
        self._found.clear()

    # --- what is read and handled ---

    def took(self, entries: Entries, now: float) -> None:
        """These were read; nobody had them before."""
        self._held |= dict.fromkeys(entries.ids, now)
        self.position = entries.ids[-1].decode()

    def reads_ahead(self, *fetched: Entries) -> None:
        """These are to be handed out, and taken off these when they are."""
        self._ahead = [entries for entries in self._ahead if entries and entries.ids[-1] in self._held]
        self._ahead += fetched

    def finish(self, ids: Iterable[bytes]) -> bool:
        """The entries with these IDs are handled, or passed over. Gives whether another may be handed out alone now."""
        held, due, before = self._held, self._due, self._before
        for id in ids:
            if held.pop(id, None) is not None:
                due.append(id)
                if before:
                    before.pop(id, None)
        if not self._alone or self._alone in held:
            return False
        self._alone = b""
        return True

    def holds(self, id: str) -> bool:
        """Whether an entry was delivered, and is not finished."""
        return id.encode() in self._held

    # --- acknowledgements ---

    @property
    def due(self) -> bool:
        """Whether something is handled that was not sent to be acknowledged."""
        return bool(self._due)

    @property
    def settled(self) -> bool:
        """Whether all that is handled is acknowledged."""
        return not self._due and not self._unanswered

    @property
    def unacknowledged(self) -> list[bytes]:
        """What is handled and not acknowledged, in the order of that."""
        return [*chain(*self._unanswered, self._due)]

    def acknowledge(self) -> bytes:
        """The command that acknowledges what is handled."""
        ids, self._due = self._due, []
        self._unanswered.append(ids)
        return self.member.acknowledge(ids)

    def answered(self, reply: Reply) -> None:
        """Take the reply to the oldest unanswered acknowledgement. Refused, it becomes due again."""
        ids = self._unanswered.popleft()
        if isinstance(reply, Refusal):
            self._due[:0] = ids

    def reattach(self) -> None:
        """After a new connection: what was not answered is due again. To acknowledge twice does no harm."""
        self._due = self.unacknowledged
        self._unanswered.clear()

    # --- renewal ---

    def renewals(self, now: float) -> list[list[bytes]]:
        """What is to be renewed, lest others take it over: IDs in their order, in bundles."""
        ids = [id for id, at in self._held.items() if at <= now - self._renew_after]
        ids.sort(key=_in_order)
        return [ids[at : at + RENEWED_TOGETHER] for at in range(0, len(ids), RENEWED_TOGETHER)]

    def renewed(
        self, ids: Iterable[bytes], owners: Iterable[tuple[bytes, bytes]], now: float
    ) -> dict[bytes, bytes]:
        """Take the answer.

        Args:
            ids: what was to be renewed.
            owners: those of them that are not pending for this consumer, and for whom they are.
            now: the time.

        Returns:
            What somebody else has now, and who. What of it was not handed out yet will not be.
        """
        self._held |= {id: now for id in ids if id in self._held}
        taken = {}
        for id, owner in owners:
            # What is pending for nobody was acknowledged by another, or removed from the stream, or went with its
            # group. In most of these cases it is handled here or nowhere.
            if owner and self._held.pop(id, None) is not None:
                self._found.pop(id, None)
                self._before.pop(id, None)
                taken[id] = owner
        if taken:
            for entries in self._ahead:
                entries.keep(lambda id: id not in taken)
        return taken

    # --- what others left, and what never arrived ---

    def looked(self, taken: Taken) -> tuple[list[bytes], list[bytes]]:
        """Take the answer to taking over. Gives what was not held before, and what is in the stream no more."""
        self.place = taken.place.decode()
        known = self._known()
        return [id for id in taken.ids if id not in known], [id for id in taken.gone if id not in known]

    def found(self, counts: dict[bytes, int], now: float, *, among: Iterable[bytes]) -> None:
        """These of the entries that are pending for this consumer, delivered so often, were taken over."""
        self._find({id: counts[id] for id in among if id in counts}, now)

    def strayed(self, counts: dict[bytes, int], now: float, *, undelivered: bool) -> None:
        """What is pending for this consumer and is not known here never arrived. Nothing is on its way.

        Args:
            counts: what is pending for it, and how often that was delivered.
            now: the time.
            undelivered: whether it was sent to this process, and not to one before it of the same name.
        """
        known = self._known()
        self._find({id: max(0, count - undelivered) for id, count in counts.items() if id not in known}, now)

    def _find(self, deliveries: dict[bytes, int], now: float) -> None:
        self._held |= dict.fromkeys(deliveries, now)
        self._found |= deliveries

    def next_fetch(self, most: int) -> Fetch | None:
        """What is to be asked for next, of what was found, that many at most; None where there is nothing for now."""
        spent = [id for id, before in self._found.items() if before >= self._max_deliveries]
        if spent:
            return Fetch(spent[:most], self._found[spent[0]], spent=True)
        crowd = [(id, before) for id, before in self._found.items() if before < ALONE_FROM]
        if crowd:
            # In their order, so only those that follow each other: the counts of all are set to the same.
            deliveries = crowd[0][1]
            alike = takewhile(lambda each: each[1] == deliveries, crowd)
            return Fetch([id for id, _ in islice(alike, most)], deliveries, spent=False)
        if self._found and self._alone not in self._held:
            id, deliveries = next(iter(self._found.items()))
            return Fetch([id], deliveries, spent=False)
        return None

    def fetched(self, fetch: Fetch, entries: Entries, now: float) -> tuple[Entries, list[bytes]]:
        """Take the answer. Gives the entries, and the IDs of those that are in the stream no more."""
        there = dict.fromkeys(entries.ids, now)
        for id in fetch.ids:
            self._found.pop(id, None)
        self._held |= there
        self._before |= dict.fromkeys(there, fetch.deliveries)
        if fetch.deliveries >= ALONE_FROM and not fetch.spent:
            self._alone = fetch.ids[0]
        return entries, [id for id in fetch.ids if id not in there]

    def count(self, id: bytes) -> bytes:
        """The command that counts another delivery of what was fetched."""
        return self.member.count(id, self._before.get(id, 0) + 1)

    def lose(self, ids: Iterable[bytes]) -> None:
        """These are in the stream no more: nothing is left but to acknowledge them."""
        for id in ids:
            self._held.pop(id, None)
            self._due.append(id)

    def deliveries(self) -> list[tuple[bytes, int]]:
        """How often each of what is held was delivered before, where it was."""
        return [*self._before.items(), *self._found.items()]

    def _known(self) -> set[bytes]:
        return {*self._held, *self.unacknowledged}


def _in_order(id: bytes) -> str:
    return padded(id.decode())
