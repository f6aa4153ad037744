"""Whether a publisher or a subscriber gets on: judged by its progress, not by a ping. Pure decisions.

Whoever has nothing to do is healthy, and so is whoever waits for its turn. What counts is how long something that is
to be done has not been. All moments are those of the monotonic clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

# Seconds without progress after which something is wrong, where nothing else is said.
MAX_STALL: Final = 30.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands.

    Attributes:
        healthy: whether what is to be done is being done.
        reason: why, in words.
        since: healthy, when it was started or last got over a trouble; otherwise the last progress. None before the
            start.
    """

    healthy: bool
    reason: str
    since: datetime | None = None


class PublisherHealth(Health, frozen=True, kw_only=True):
    """How a publisher stands.

    Attributes:
        unacknowledged: how many events are accepted and not acknowledged.
        oldest_unacknowledged: seconds since the oldest of them was accepted, too many by the time of a batch at most;
            None where there are none.
        last_acknowledged: when the server last acknowledged something; None where it never did.
    """

    unacknowledged: int = 0
    oldest_unacknowledged: float | None = None
    last_acknowledged: datetime | None = None


class SubscriberHealth(Health, frozen=True, kw_only=True):
    """How a subscriber stands.

    Attributes:
        standby: whether it waits for another one of its name to end.
        in_hand: seconds since the oldest event that is not done with was handed out; None where none is in hand.
        last_read: when the server last answered a read, be it with nothing; None where it never did.
    """

    standby: bool = False
    in_hand: float | None = None
    last_read: datetime | None = None


class Condition(msgspec.Struct, frozen=True):
    """How a connection does.

    Attributes:
        what: what it is for: "append", "read", "commit", "dead_letter" or "lease".
        worked: when an attempt last worked; None where none did.
        failing: when the first attempt since then failed; None where none has.
        recovered: when an attempt first worked after some had failed; None where that never was.
        reason: why the last one failed.
        final: whether there will be no further attempt.
    """

    what: str
    worked: float | None = None
    failing: float | None = None
    recovered: float | None = None
    reason: str = ""
    final: bool = False


class Publishing(msgspec.Struct, frozen=True):
    """What is known of a publisher.

    Attributes:
        closed: why nothing can be published; "" where that can be.
        line: its connection.
        unacknowledged: how many events are accepted and not acknowledged.
        accepted: when the oldest of them was, or a bit before.
        acknowledged: when something last was.
        started, ended: when its background task began, and ended.
    """

    closed: str
    line: Condition
    unacknowledged: int
    accepted: float | None
    acknowledged: float | None
    started: float | None
    ended: float | None


class Consuming(msgspec.Struct, frozen=True):
    """What is known of a subscriber.

    Attributes:
        closed: why it cannot be iterated; "" where it can.
        died: why there is nothing more to come; "" where there is.
        lines: its connections, as far as something is to be done over them.
        standby: whether it waits for another one of its name.
        shut: since when nothing may be handed out.
        in_hand: since when an event is; and which.
        unasked: since when there are events that nobody asks for.
        started: when it was.
    """

    closed: str
    died: str
    lines: list[Condition]
    standby: bool
    shut: float | None
    in_hand: float | None
    entry: str
    unasked: float | None
    started: float | None


def publisher_health(found: Publishing, now: float, max_stall: float) -> PublisherHealth:
    """Judge a publisher.

    Args:
        found: what is known of it.
        now: the time.
        max_stall: how long what is to be appended may not be.
    """
    healthy, since = False, found.ended
    progress = _latest([found.accepted, found.acknowledged, found.started])
    stalled = now - progress if progress is not None and found.unacknowledged else 0.0
    because = f": {found.line.reason}" if found.line.failing is not None else ""
    if found.closed:
        reason = found.closed
    elif stalled > max_stall:
        since = progress
        reason = (
            f"{found.unacknowledged} events are not acknowledged, and none was for {stalled:.1f} s{because}"
        )
    else:
        healthy, since = True, _latest([found.started, found.line.recovered])
        reason = f"{found.unacknowledged} events are being appended{because}"
        if not found.unacknowledged:
            reason = "everything that was accepted is acknowledged"
    return PublisherHealth(
        healthy=healthy,
        reason=reason,
        since=_clock(since, now),
        unacknowledged=found.unacknowledged,
        oldest_unacknowledged=None if found.accepted is None else max(0.0, now - found.accepted),
        last_acknowledged=_clock(found.acknowledged, now),
    )


def worst(each: Iterable[PublisherHealth]) -> PublisherHealth:
    """Judge a publisher to several partitions: as the one of them that has waited longest, the unhealthy ones first."""
    several = list(each)
    found = max(several, key=lambda one: (not one.healthy, one.oldest_unacknowledged or 0.0))
    acknowledged = [one.last_acknowledged for one in several if one.last_acknowledged is not None]
    return msgspec.structs.replace(
        found,
        unacknowledged=sum(one.unacknowledged for one in several),
        last_acknowledged=max(acknowledged, default=None),
    )


def subscriber_health(found: Consuming, now: float, max_stall: float) -> SubscriberHealth:
    """Judge a subscriber.

    Args:
        found: what is known of it.
        now: the time.
        max_stall: how long an event may be in hand or wait for somebody to ask, or a connection may fail.
    """
    complaint, since = _complaint(found, now, max_stall)
    if not complaint:
        since = _latest([found.started, *(line.recovered for line in found.lines)])
    return SubscriberHealth(
        healthy=not complaint,
        reason=complaint or _activity(found, now),
        since=_clock(since, now),
        standby=found.standby,
        in_hand=None if found.in_hand is None else max(0.0, now - found.in_hand),
        last_read=_clock(_latest([line.worked for line in found.lines if line.what == "read"]), now),
    )


def _complaint(found: Consuming, now: float, max_stall: float) -> tuple[str, float | None]:
    """What is wrong, if something is, and since when."""
    if found.closed or found.died:
        worked = _latest([line.worked for line in found.lines])
        return found.closed or found.died, None if found.closed else worked or found.started
    for line in found.lines:
        since = line.failing if line.worked is None else line.worked
        if line.failing is not None and since is not None and (line.final or now - since > max_stall):
            return f"{_DOING[line.what]} has failed for {now - since:.1f} s: {line.reason}", since
    stalls = (
        (found.shut, "its lease could not be renewed, so nothing is handed out"),
        (found.in_hand, f"{found.entry} is in hand: what handles it takes too long, or has left it"),
        (found.unasked, "there are events, and nobody asks for them"),
    )
    for since, what in stalls:
        if since is not None and now - since > max_stall:
            return f"for {now - since:.1f} s, {what}", since
    return "", None


def _activity(found: Consuming, now: float) -> str:
    """What goes on."""
    for line in found.lines:
        if line.failing is not None:
            return (
                f"{_DOING[line.what]} has failed for {now - line.failing:.1f} s, and is tried again: "
                f"{line.reason}"
            )
    if found.standby:
        return "it stands by: another subscriber of its name reads"
    if found.in_hand is not None:
        return f"{found.entry} is being handled"
    return (
        "it waits for events" if found.unasked is None else "there are events that nobody has asked for yet"
    )


_DOING: Final = {
    "read": "reading",
    "commit": "storing what is handled",
    "dead_letter": "writing a dead letter",
    "lease": "asking for the lease",
}


def _latest(moments: Iterable[float | None]) -> float | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _clock(moment: float | None, now: float) -> datetime | None:
    """What the clock on the wall showed at a moment."""
    return None if moment is None else datetime.now(UTC) - timedelta(seconds=now - moment)
