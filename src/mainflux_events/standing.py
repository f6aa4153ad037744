"""How a consumer group stands: how far it is behind, and what is pending for whom."""

from __future__ import annotations

from typing import Any

from .acks import Acknowledger
from .cursor import Lag, padded, stream_info
from .errors import EventsError
from .link import Disconnected, Reply
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
        for reply in (found, pending):
            if isinstance(reply, Refusal):
                raise reply
        return lag(stream_info(stream), group_of(found, share), pending)
    except (Disconnected, Refusal) as error:
        raise EventsError(f"lag of {share.stream!r}: {where}: {error}") from None


def lag(stream: dict[str, Any], group: dict[str, Any], pending: Reply) -> Lag:
    """How far a group is behind: what was not delivered yet, and what was and is not acknowledged.

    Args:
        stream: what the server says of the stream.
        group: and of the group.
        pending: and of what is pending: how many entries, the first and the last of them, by consumer.
    """
    assert isinstance(pending, list)
    count, oldest = pending[:2]
    last, delivered = stream["last-generated-id"].decode(), group["last-delivered-id"].decode()
    first = stream["first-entry"][0].decode() if stream["first-entry"] else ""
    undelivered: int | None
    if not first or padded(delivered) >= padded(last):
        undelivered = 0
    elif padded(delivered) < padded(first):
        undelivered = stream["length"]
    else:
        undelivered = group.get("lag")  # unknown before Redis 7.0
    if not count and undelivered == 0:
        return Lag(0, 0.0)
    begins = oldest.decode() if count else max(delivered, first, key=padded)
    seconds = (_milliseconds(last) - _milliseconds(begins)) / 1000
    return Lag(None if undelivered is None else undelivered + count, max(0.0, seconds))


async def ask_pending(share: Share, keeper: Acknowledger, where: str) -> dict[str, Pending]:
    """What is pending for each consumer. EventsError where the server cannot be asked."""
    try:
        reply = await keeper.ask(command("XINFO", "CONSUMERS", share.stream, share.member.group))
    except (Disconnected, Refusal) as error:
        raise EventsError(f"pending of {share.stream!r}: {where}: {error}") from None
    assert isinstance(reply, list)
    consumers = map(_named, reply)
    return {
        each["name"].decode("utf-8", "replace"): Pending(each["pending"], each["idle"] / 1000)
        for each in consumers
    }


def groups(share: Share) -> bytes:
    """Ask for the groups of a stream."""
    return command("XINFO", "GROUPS", share.stream)


def group_of(reply: Reply, share: Share) -> dict[str, Any]:
    """What the server says of the group, by its names. Refusal where it is not there."""
    assert isinstance(reply, list)
    for group in map(_named, reply):
        if group["name"] == share.member.group.encode():
            return group
    raise Refusal("NOGROUP the group is gone again")


def _named(pairs: list[Any]) -> dict[str, Any]:
    parts = iter(pairs)
    return {name.decode(): value for name, value in zip(parts, parts, strict=True)}


def _milliseconds(id: str) -> int:
    return int(id.partition("-")[0])
