"""A batch of appends as commands, and what its replies say of each event.

Several events go in one transaction: the server refuses all of it or applies all of it, so that no later event
overtakes a refused one. That is also why the next batch is applied only when the last one's replies are there; until
then the server may hold its commands queued. `idempotent` does the same in a script.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from .hooks import SequenceLostDetails
from .link import Reply
from .refusals import Outlook, Refusal, nonsense
from .resp import Append, Heads, command

_MULTI: Final = command("MULTI")
_EXEC: Final = command("EXEC")
# Without arguments it is refused, and with it what has been queued. DISCARD would need a right of its own.
_SPOIL: Final = command("XADD")

# What follows a batch that was sent ahead, and how many replies that has: to apply it, and to apply nothing of it.
EXECUTE: Final = (_EXEC, 1)
FORGET: Final = (_SPOIL + _EXEC, 2)

# In place of what a Redis server would say.
NONSENSE: Final = nonsense("a batch")


class Verdict(msgspec.Struct, frozen=True):
    """What became of the oldest events of a batch; what is not named here is to be sent again.

    Attributes:
        acknowledged: the IDs of the entries, in order.
        refusal: what the server said of the first event that is not acknowledged, or of what went before it.
        poison: the place in the batch of an event that will never be accepted.
        lost: what the server has lost, and how many of the oldest events it leaves unknown: those are given up.
    """

    acknowledged: Sequence[bytes]
    refusal: Refusal | None = None
    poison: int | None = None
    lost: SequenceLostDetails | None = None


# Gives what of a batch's payload may be sent ahead, and how many replies that has.
Queued: TypeAlias = "Callable[[Sequence[bytes]], tuple[bytes, int]]"


class Appender(ABC):
    """One way to append batches: what to send, and what the replies mean. It waits for nothing.

    Args:
        heads: what packed events begin with.
        rights: which are needed, in the words of the server.
        queued: what may be sent ahead, while the batch before is not answered; None where nothing may. Nothing of it
            is applied before `EXECUTE` follows, and nothing ever after `FORGET` or without the connection.
    """

    def __init__(self, heads: Heads, rights: str, queued: Queued | None = None) -> None:
        self.heads: Heads = heads
        self.rights: str = rights
        self.queued: Queued | None = queued

    @property
    def epochs(self) -> int:
        """How often what it keeps at the server had to be begun anew."""
        return 0

    @property
    def in_doubt(self) -> bool:
        """Whether a batch has to be sent again as it is, because it may be there already."""
        return False

    def keys_there(self) -> bytes | None:
        """A command that the target of a moving slot refuses unless all keys are there; None where one key is all."""
        return None

    @property
    def sends_events(self) -> bool:
        """Whether the last payload was the batch, and not what had to go first."""
        return True

    def connected(self) -> None:  # noqa: B027 - most need not know
        """What is sent next goes over a new connection."""

    @abstractmethod
    def probe(self) -> tuple[bytes, Sequence[str]]:
        """Commands that append nothing and are refused where rights are missing; and what each is, and on which key.

        Those that are refused in any case have no name.
        """

    @abstractmethod
    def payload(self, batch: Sequence[bytes]) -> tuple[bytes, int]:
        """What to send to append a batch of packed events, or what has to go first, and how many replies it has."""

    @abstractmethod
    def verdict(self, events: int, replies: Sequence[Reply]) -> Verdict:
        """Read the replies to the payload of so many events; fewer than all, where the connection ended before."""


class Transactions(Appender):
    """Appends a batch in one transaction, and again if no reply came: at least once.

    Args:
        stream: the key of the stream.
        max_len: about how many entries the stream is trimmed to; None for not at all.
        alone: whether nobody else uses the connection, so that a transaction on it may stay open.
    """

    def __init__(self, stream: str, max_len: int | None, *, alone: bool = False) -> None:
        rights = "+xadd +multi +exec on the stream's key"
        super().__init__(Append(stream, max_len), rights, _queued if alone else None)
        self._stream = stream

    def probe(self) -> tuple[bytes, Sequence[str]]:
        # Rights are checked when a command is queued. This XADD could append nothing even where no transaction is
        # begun (its ID is refused), and the one without arguments makes the server discard the transaction.
        xadd = command("XADD", self._stream, "NOMKSTREAM", "0-0", "probe", "")
        on = f"on {self._stream!r}"
        return _MULTI + xadd + _SPOIL + _EXEC, (f"MULTI {on}", f"XADD {on}", "", f"EXEC {on}")

    def payload(self, batch: Sequence[bytes]) -> tuple[bytes, int]:
        if len(batch) == 1:
            return batch[0], 1
        return b"".join((_MULTI, *batch, _EXEC)), len(batch) + 2

    def verdict(self, events: int, replies: Sequence[Reply]) -> Verdict:
        if events == 1:
            return _applied(replies)
        complete = len(replies) == events + 2
        if complete and isinstance(executed := replies[-1], list):
            return _applied(executed) if len(executed) == events else Verdict((), NONSENSE)
        if replies and isinstance(replies[0], Refusal):
            # No transaction was begun, so each event was applied or refused by itself.
            return _applied(replies[1 : events + 1]) if len(replies) > 1 else Verdict((), replies[0])
        # Nothing was applied, or nobody knows. The first refusal is the cause, the others follow from it.
        for place, reply in enumerate(replies[1:]):
            if isinstance(reply, Refusal):
                poisoned = place < events and reply.outlook is Outlook.VALUE
                return Verdict((), reply, place if poisoned else None)
        return Verdict((), NONSENSE if complete else None)


def _queued(batch: Sequence[bytes]) -> tuple[bytes, int]:
    return b"".join((_MULTI, *batch)), len(batch) + 1


def _applied(results: Sequence[Reply]) -> Verdict:
    ids: list[bytes] = []
    for result in results:
        if isinstance(result, Refusal):
            return Verdict(ids, result, len(ids) if result.outlook is Outlook.VALUE else None)
        if not isinstance(result, bytes):
            return Verdict(ids, NONSENSE)
        ids.append(result)
    return Verdict(ids)
