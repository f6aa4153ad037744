"""How long to wait, how often to try, when to commit: small frozen settings, and the states that apply them.

The only module that uses tenacity.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import tenacity

from .errors import ConfigError


def positive(name: str, value: float, *, zero: bool = False) -> None:
    """Raise ConfigError unless the value is a finite number above 0 (or, with `zero`, not below it)."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (value == 0 and not zero):
        raise ConfigError(
            f"{name}: it must be a number {'of at least' if zero else 'above'} 0, not {value!r}"
        )


# The longest that Redis and most systems count: 64 bits with a sign.
LARGEST = 2**63 - 1


def whole(name: str, value: int, least: int = 1) -> None:
    """Raise ConfigError unless the value is a whole number from `least` to `LARGEST`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name}: it must be a whole number of at least {least}, not {value!r}")
    if value > LARGEST:
        raise ConfigError(f"{name}: it must be at most {LARGEST}, not {value!r}")


def text(name: str, value: str) -> None:
    """Raise ConfigError unless the value is a text that is not empty and can be written."""
    try:
        valid = isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise ConfigError(f"{name}: a non-empty str without lone surrogates is wanted, not {value!r}")


def instance(name: str, value: object, wanted: type) -> None:
    """Raise ConfigError unless the value is of this type."""
    if not isinstance(value, wanted):
        raise ConfigError(f"{name}: a {wanted.__name__} is wanted, not {value!r}")


class Backoff(msgspec.Struct, frozen=True):
    """The waits between attempts: doubled from `initial` up to `maximum`, in seconds.

    Each wait is shortened by up to a half at random, so that many clients do not come back at the same moment.
    """

    initial: float = 1.0
    maximum: float = 30.0

    def __post_init__(self) -> None:
        positive("backoff.initial", self.initial)
        positive("backoff.maximum", self.maximum)
        if self.maximum < self.initial:
            raise ConfigError(f"backoff.maximum: {self.maximum} is below backoff.initial, {self.initial}")


class Retry(msgspec.Struct, frozen=True):
    """How often a handler is called for one event, and the wait before the second call, in seconds.

    Further waits are doubled up to a minute. The defaults are the reference's.
    """

    attempts: int = 2
    initial: float = 0.5

    def __post_init__(self) -> None:
        whole("retry.attempts", self.attempts)
        positive("retry.initial", self.initial, zero=True)


class Commit(msgspec.Struct, frozen=True):
    """When the cursor of a subscriber is stored. Made by `Commit.each()` or `Commit.every()`.

    Attributes:
        events: at the latest after so many handled events.
        seconds: at the latest so long after the first of them.
        every_turn: whether a turn of the event loop in between is reason enough.
    """

    events: int
    seconds: float
    every_turn: bool

    def __post_init__(self) -> None:
        whole("commit.events", self.events)
        positive("commit.seconds", self.seconds)

    @classmethod
    def each(cls) -> Commit:
        """After each event whose handler awaited; of handlers that never await, after 64 events or 1 ms."""
        return cls(events=64, seconds=0.001, every_turn=True)

    @classmethod
    def every(cls, events: int = 100, seconds: float = 1.0) -> Commit:
        """After so many events or seconds: cheaper, and after a crash so many events come again."""
        return cls(events=events, seconds=seconds, every_turn=False)


class Waits:
    """The growing waits of one trouble, until `reset`.

    Attributes:
        attempts: how many waits there were.
    """

    def __init__(self, initial: float, maximum: float) -> None:
        half = {"multiplier": initial / 2, "max": maximum / 2}
        self._wait = tenacity.wait_exponential(**half) + tenacity.wait_random_exponential(**half)
        self._maximum = maximum
        self.attempts: int = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        self.attempts += 1
        return self._seconds(self.attempts)

    def longest(self) -> float:
        """Seconds to wait where nothing will change soon."""
        self.attempts += 1
        return self._maximum

    def reset(self) -> None:
        """The trouble is over."""
        self.attempts = 0

    def _seconds(self, attempt: int) -> float:
        # Tenacity's strategies look at nothing but the number of the attempt.
        state: Any = tenacity.RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = attempt
        return float(self._wait(state))
