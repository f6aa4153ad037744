"""Counts, as they were when they were asked for."""

from __future__ import annotations

import msgspec


class PublisherStats(msgspec.Struct, frozen=True):
    """Counts of events since the start. At rest `accepted` is the sum of the next five.

    Attributes:
        accepted: taken into the buffer, or dropped instead.
        acknowledged: Redis has said that it appended them.
        dropped: given up because the buffer was full.
        undelivered: given up because the server refused them for good, the publisher closed, or nobody knows whether
            they were appended and `idempotent` forbids to try again.
        buffered: waiting for their turn.
        in_flight: sent, or being sent, and not acknowledged.
        retries: attempts that failed and were made again.
        reconnects: connections made after the first one. Of partitions on one server, which share it, each counts once.
        epochs: how often an idempotent publisher began a new sequence, because the server had lost the last one or
            it had run out.
    """

    accepted: int
    acknowledged: int
    dropped: int
    undelivered: int
    buffered: int
    in_flight: int
    retries: int
    reconnects: int
    epochs: int = 0


class SubscriberStats(msgspec.Struct, frozen=True):
    """Counts of entries since the start.

    Attributes:
        received: looked at; the sum of those handled, skipped, dead-lettered and given up, and the one in hand.
        handled: their handler returned, or the next event was asked for.
        skipped: passed over: of an operation that is unknown, or that was not asked for.
        retried: further calls of a handler for the same event.
        dead_lettered: no attempt handled them, or they do not decode, and they are in the dead letters.
        given_up: the same, without dead letters.
        gaps: how often entries were found to have been removed before they were read.
        missed: how many those were; an upper bound, where a gap's own count is one, and without those of gaps of which
            the server cannot tell. Of a group: how many were removed when they were delivered and not handled.
        resets: how often a stream was found to be another one.
    """

    received: int
    handled: int
    skipped: int
    retried: int
    dead_lettered: int
    given_up: int
    gaps: int = 0
    missed: int = 0
    resets: int = 0
