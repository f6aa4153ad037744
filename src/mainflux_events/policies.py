"""How long to wait, how often to try, when to commit: small frozen settings, and the states that apply them.

The only module that uses tenacity.
"""

from __future__ import annotations

import math
from collections import deque
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
    """How often a handler is called for one event, and how long it is waited between two calls.

    Attributes:
        attempts: so many calls at most.
        initial: seconds before the second call; doubled before each further one. Each wait is shortened by up to a
            half at random.
        maximum: the longest wait, in seconds.
        on: what is worth another call: an exception of none of these classes is final at once. A time-out is a
            TimeoutError.

    The defaults of `attempts` and `initial` are the reference's.
    """

    attempts: int = 2
    initial: float = 0.5
    maximum: float = 60.0
    on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        whole("retry.attempts", self.attempts)
        positive("retry.initial", self.initial, zero=True)
        positive("retry.maximum", self.maximum)
        if self.maximum < self.initial:
            raise ConfigError(f"retry.maximum: {self.maximum} is below retry.initial, {self.initial}")
        known = isinstance(self.on, tuple) and all(
            isinstance(each, type) and issubclass(each, Exception) for each in self.on
        )
        if not known:
            raise ConfigError(f"retry.on: a tuple of subclasses of Exception is wanted, not {self.on!r}")

    def covers(self, error: BaseException) -> bool:
        """Whether the handler is to be called again after this error, as long as there are attempts left."""
        if isinstance(error, Exception):
            return isinstance(error, self.on)
        # A CancelledError, of something that the handler awaited, which is a failure like any other.
        return Exception in self.on


class DeadLetterLimit(msgspec.Struct, frozen=True):
    """How many dead letters one subscriber may write in so many seconds. Past that it stops.

    After a bad deploy every event fails: then the stream is to wait, and not to be emptied into the dead letters.
    """

    count: int = 100
    seconds: float = 60.0

    def __post_init__(self) -> None:
        whole("limit.count", self.count)
        positive("limit.seconds", self.seconds)


class DeadLetters(msgspec.Struct, frozen=True):
    """Where the entries go that could not be handled.

    Attributes:
        stream: the key of the stream of dead letters.
        limit: how many in how long before the subscriber stops; None for any number.
        max_len: about how many dead letters are kept, the newest; None for all.
    """

    stream: str
    limit: DeadLetterLimit | None = DeadLetterLimit()
    max_len: int | None = None

    def __post_init__(self) -> None:
        text("dead_letter", self.stream)
        if self.limit is not None:
            instance("dead_letter: limit", self.limit, DeadLetterLimit)
        if self.max_len is not None:
            whole("dead_letter: max_len", self.max_len)


def checked_dead_letters(
    dead_letter: str | DeadLetters | None, streams: tuple[str, ...]
) -> DeadLetters | None:
    """Where the entries of these streams go that could not be handled. ConfigError for what is no such place."""
    if dead_letter is None:
        return None
    if not isinstance(dead_letter, DeadLetters):
        dead_letter = DeadLetters(dead_letter)
    if dead_letter.stream in streams:
        raise ConfigError(
            f"dead_letter: {dead_letter.stream!r} is consumed by this subscriber itself, which would never come to an "
            "end of it; choose another stream"
        )
    return dead_letter


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


class Allowance:
    """What is left of a limit."""

    def __init__(self, limit: DeadLetterLimit) -> None:
        self._limit = limit
        self._spent: deque[float] = deque(maxlen=limit.count)

    def spend(self, now: float) -> bool:
        """Take one, where that keeps to the limit. Gives whether it does.

        Args:
            now: the time, in seconds of a clock that only runs forward.
        """
        spent = self._spent
        if len(spent) == self._limit.count and now - spent[0] < self._limit.seconds:
            return False
        spent.append(now)  # in the place of the oldest
        return True


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
