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
    events, place, kept, gate = subscriber._events, subscriber._place, subscriber._kept, subscriber._gate
    conditions = [part.condition for part in subscriber._connected()]
    event = events[place - 1] if kept < place <= len(events) else None
    standby = subscriber._standing_by
    return Consuming(
        closed=str(subscriber._unusable() or ""),
        died=str(subscriber._failed or ""),
        lines=[condition for condition in conditions if condition is not None],
        standby=standby,
        shut=gate.until if now > gate.until and not standby else None,
        # It was handed out before the next turn of the event loop was due, by a thousandth of a second at most.
        in_hand=None if event is None else min(now, subscriber._turn_due),
        entry="" if event is None else f"entry {event.id} of {event.stream!r}",
        unasked=None if event is not None or subscriber._asking else _waits_since(subscriber),
        started=subscriber._started,
    )


def _waits_since(subscriber: Examined) -> float | None:
    """Since when there is something to be handed out, or since the last time that something was."""
    left = 0.0 if subscriber._place < len(subscriber._events) else subscriber._intake.waits_since
    return None if left is None else max(left, subscriber._turn_due, subscriber._started or 0.0)
