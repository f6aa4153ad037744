"""A batch of appends as commands, and what its replies say of each event.

Several events go in one transaction: the server refuses all of it or applies all of it, so that no later event
overtakes a refused one. That is also why the next batch waits for the last one's replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from .link import Reply
from .refusals import Outlook, Refusal
from .resp import command

_MULTI: Final = command("MULTI")
_EXEC: Final = command("EXEC")


class Verdict(msgspec.Struct, frozen=True):
    """What became of the oldest events of a batch; what is not named here is to be sent again.

    Attributes:
        acknowledged: the IDs of the entries, in order.
        refusal: what the server said of the first event that is not acknowledged, or of what went before it.
        poison: the place in the batch of an event that will never be accepted.
    """

    acknowledged: Sequence[bytes]
    refusal: Refusal | None = None
    poison: int | None = None


def payload(batch: Sequence[bytes]) -> tuple[bytes, int]:
    """The commands that append a batch of packed events, and how many replies they have."""
    if len(batch) == 1:
        return batch[0], 1
    return b"".join((_MULTI, *batch, _EXEC)), len(batch) + 2


def verdict(events: int, replies: Sequence[Reply]) -> Verdict:
    """Read the replies to a batch of so many events; fewer than all, where the connection ended before."""
    if events == 1:
        return _applied(replies)
    if len(replies) == events + 2 and isinstance(executed := replies[-1], list):
        return _applied(executed)
    if replies and isinstance(replies[0], Refusal):
        # No transaction was begun, so each event was applied or refused by itself.
        return _applied(replies[1 : events + 1]) if len(replies) > 1 else Verdict((), replies[0])
    # Nothing was applied, or nobody knows. The first refusal is the cause, the others follow from it.
    for place, reply in enumerate(replies[1:]):
        if isinstance(reply, Refusal):
            poisoned = place < events and reply.outlook is Outlook.VALUE
            return Verdict((), reply, place if poisoned else None)
    return Verdict(())


def _applied(results: Sequence[Reply]) -> Verdict:
    ids: list[bytes] = []
    for result in results:
        if isinstance(result, Refusal):
            return Verdict(ids, result, len(ids) if result.outlook is Outlook.VALUE else None)
        assert isinstance(result, bytes)
        ids.append(result)
    return Verdict(ids)
