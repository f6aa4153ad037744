"""What is to be known of a subscriber to say whether it gets on. It is looked at, from any thread, and not asked."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Protocol

from .errors import EventsError
from .events import Event
from .gate import Gate
from .health import Consuming
from .intake import Intake
from .service import Connected


class Working(Protocol):
    """Several handlers at once: see `Workers`."""

    @property
    def oldest_call(self) -> tuple[float, Event] | None:
        """When the oldest call of the handler began, and with which event; None where there is none."""
        ...


class Examined(Protocol):
    """What of a subscriber is looked at: see `Consumer`."""

    _events: list[Event]
    _place: int
    _kept: int
    _asking: bool
    _turn_due: float
    _intake: Intake
    _gate: Gate
    _started: float | None
    _failed: Exception | None

    @property
    def _workers(self) -> Working | None:
        """Who handles several at once, where that is done."""
        ...

    def _unusable(self) -> EventsError | None:
        """Why nothing can be asked for now, if so."""
        ...

    @property
    def _standing_by(self) -> bool:
        """Whether it waits for another one of its name."""
        ...

    def _connected(self) -> Sequence[Connected]:
        """Who has connections."""
        ...


def found(subscriber: Examined) -> Consuming:
    """What is known of a subscriber now."""
    now = monotonic()
    # It may change meanwhile, so what is looked at twice is taken first.
    gate, workers = subscriber._gate, subscriber._workers
    conditions = [part.condition for part in subscriber._connected()]
    in_hand = _in_hand(subscriber, now) if workers is None else workers.oldest_call
    since, event = in_hand or (None, None)
    asks = workers is not None or subscriber._asking
    standby = subscriber._standing_by
    return Consuming(
        closed=str(subscriber._unusable() or ""),
        died=str(subscriber._failed or ""),
        lines=[condition for condition in conditions if condition is not None],
        standby=standby,
        shut=gate.until if now > gate.until and not standby else None,
        in_hand=since,
        entry="" if event is None else f"entry {event.id} of {event.stream!r}",
        unasked=None if event is not None or asks else _waits_since(subscriber),
        started=subscriber._started,
    )


def _in_hand(subscriber: Examined, now: float) -> tuple[float, Event] | None:
    events, place, kept = subscriber._events, subscriber._place, subscriber._kept
    if not kept < place <= len(events):
        return None
    # It was handed out before the next turn of the event loop was due, by a thousandth of a second at most.
    return min(now, subscriber._turn_due), events[place - 1]


def _waits_since(subscriber: Examined) -> float | None:
    """Since when there is something to be handed out, or since the last time that something was."""
    left = 0.0 if subscriber._place < len(subscriber._events) else subscriber._intake.waits_since
    return None if left is None else max(left, subscriber._turn_due, subscriber._started or 0.0)
