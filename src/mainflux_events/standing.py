"""How a consumer group stands: how far it is behind, and what is pending for whom."""

from __future__ import annotations

from collections.abc import Iterable

from . import answers
from .acks import Acknowledger
from .cursor import Lag, padded
from .errors import EventsError
from .link import Disconnected
from .pending import Pending, Share
from .refusals import Refusal
from .resp import command


async def ask_lag(share: Share, keeper: Acknowledger, where: str) -> Lag:
    """How far the group is behind the end of a stream. EventsError where the server cannot be asked."""
    try:
        stream, found, pending = await keeper.asked(
            command("XINFO", "STREAM", share.stream),
            groups(share),
            command("XPENDING", share.stream, share.member.group),
        )
        return lag(
            keeper.understood(answers.stream, stream),
            group_of(keeper.understood(answers.groups, found), share),
            *keeper.understood(answers.oldest, pending),
        )
    except (Disconnected, Refusal) as error:
        raise EventsError(f"lag of {share.stream!r}: {where}: {error}") from None


def lag(stream: answers.Stream, group: answers.Group, pending: int, oldest: bytes | None) -> Lag:
    """How far a group is behind: what was not delivered yet, and what was and is not acknowledged.

    Args:
        stream: what the server says of the stream.
        group: and of the group.
        pending: how many entries are pending.
        oldest: the first of them.
    """
    last, delivered = stream.last_generated_id.decode(), group.last_delivered_id.decode()
    first = stream.first_id.decode() if stream.first_id else ""
    undelivered: int | None
    if not first or padded(delivered) >= padded(last):
        undelivered = 0
    elif padded(delivered) < padded(first):
        undelivered = stream.length
    else:
        undelivered = group.lag  # unknown before Redis 7.0
    if not pending and undelivered == 0:
        return Lag(0, 0.0)
    begins = oldest.decode() if oldest else max(delivered, first, key=padded)
    seconds = (_milliseconds(last) - _milliseconds(begins)) / 1000
    return Lag(None if undelivered is None else undelivered + pending, max(0.0, seconds))


async def ask_pending(share: Share, keeper: Acknowledger, where: str) -> dict[str, Pending]:
    """What is pending for each consumer. EventsError where the server cannot be asked."""
    try:
        asked = command("XINFO", "CONSUMERS", share.stream, share.member.group)
        consumers = await keeper.ask(asked, answers.members)
    except (Disconnected, Refusal) as error:
        raise EventsError(f"pending of {share.stream!r}: {where}: {error}") from None
    return {
        each.name.decode("utf-8", "replace"): Pending(each.pending, each.idle / 1000) for each in consumers
    }


def groups(share: Share) -> bytes:
    """Ask for the groups of a stream."""
    return command("XINFO", "GROUPS", share.stream)


def group_of(groups: Iterable[answers.Group], share: Share) -> answers.Group:
    """The one of these that is the group of the share. Refusal where it is not there."""
    for group in groups:
        if group.name == share.member.group.encode():
            return group
    raise Refusal("NOGROUP the group is gone again")


def _milliseconds(id: str) -> int:
    return int(id.partition("-")[0])
