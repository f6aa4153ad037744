"""Hooks that stand around what is done, and have something travel with an event: what tracing needs.

Without one of them, publishing and handling go the way they went before: who encodes and who is called is settled once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from . import wire
from .errors import ConfigError
from .events import Action, Event
from .hooks import Hooks, Observers, logger
from .resp import Heads

# What may travel with an event, beside its own fields.
CARRIED: Final = ("traceparent", "tracestate", "baggage")

Encode: TypeAlias = Callable[[Event | Action, Heads], bytes]
AnyHandler: TypeAlias = Callable[[Any], Any]


class Tracing(Hooks):
    """Base class of hooks that also have something travel with events, and stand around the calls of handlers.

    Unlike the methods of other hooks, these are called for each event, `carried` from other threads too. One that
    raises is logged, and the event goes without it.
    """

    def carried(self, stream: str, operation: str) -> Mapping[str, str]:
        """What is to travel with an event that is being published, by names of `CARRIED`.

        Args:
            stream: where it is published.
            operation: of its action.
        """
        return {}

    def around(self, handler: AnyHandler, subscriber: str) -> AnyHandler:
        """What is called in place of a handler. It gives and raises what that does.

        Args:
            handler: a plain function or a coroutine function of an event, or of a list of them.
            subscriber: the name of the subscriber, or of the group.
        """
        return handler


def carried_in(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """What travels with an event, by names of `CARRIED`.

    Args:
        fields: of its entry, such as `event.raw`.
    """
    return {
        name.decode(): value.decode("utf-8", "replace") for name, value in fields if name in _CARRIED_OCTETS
    }


_CARRIED_OCTETS: Final = {name.encode() for name in CARRIED}


def encoder(stream: str, observers: Observers) -> Encode:
    """What encodes the events that are published to a stream: see `wire.encode`."""
    tracings = _tracings(observers)
    if not tracings:
        return wire.encode

    def encode(event: Event | Action, heads: Heads) -> bytes:
        packed = wire.encode(event, heads)
        operation = event.action.operation if isinstance(event, Event) else event.operation
        fields: dict[bytes, bytes] = {}
        for tracing in tracings:
            try:
                carried = tracing.carried(stream, operation)
                check_carried(carried)
                fields |= {name.encode(): value.encode() for name, value in carried.items()}
            except (Exception, asyncio.CancelledError):
                logger.exception("hook_failed: %s.carried raised", type(tracing).__name__)
        return heads.with_more(packed, [part for pair in fields.items() for part in pair])

    return encode


def check_carried(names: Iterable[str]) -> None:
    """Raise ConfigError unless all of these may travel with an event."""
    for name in names:
        if name not in CARRIED:
            raise ConfigError(f"with an event may travel {', '.join(CARRIED)}, not {name!r}")


def wrapped(handler: AnyHandler, subscriber: str, observers: Observers) -> AnyHandler:
    """What is called in place of a subscriber's handler."""
    for tracing in reversed(_tracings(observers)):
        handler = tracing.around(handler, subscriber)
    return handler


def _tracings(observers: Observers) -> list[Tracing]:
    return [hook for hook in observers.each if isinstance(hook, Tracing)]
