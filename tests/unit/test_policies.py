"""Settings that are refused, and the waits that the others give."""

from __future__ import annotations

import asyncio
import math
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events.errors import ConfigError
from mainflux_events.policies import (
    Allowance,
    Backoff,
    Commit,
    DeadLetterLimit,
    DeadLetters,
    Retry,
    Waits,
    checked_dead_letters,
    positive,
    whole,
)


@pytest.mark.parametrize("value", [0.001, 1, 10**9])
def test_a_positive_number_is_taken(value: float) -> None:
    positive("timeout", value)
    assert Backoff(initial=value, maximum=value).initial == value


@pytest.mark.parametrize("value", [0, -1, -0.5, math.inf, math.nan, True, "1", None])
def test_what_is_no_positive_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(ConfigError, match="^timeout: it must be a number above 0, not "):
        positive("timeout", value)  # type: ignore[arg-type]


def test_zero_can_be_allowed() -> None:
    positive("timeout", 0, zero=True)
    with pytest.raises(ConfigError, match="^timeout: it must be a number of at least 0, not -1"):
        positive("timeout", -1, zero=True)


@pytest.mark.parametrize("value", [0, -5, 1.0, True, "1", None])
def test_what_is_no_whole_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(ConfigError, match="^size: it must be a whole number of at least 1, not "):
        whole("size", value)  # type: ignore[arg-type]


def test_a_whole_number_has_a_least() -> None:
    whole("size", 3, least=3)
    with pytest.raises(ConfigError, match="at least 3, not 2"):
        whole("size", 2, least=3)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"initial": 0}, "backoff.initial"),
        ({"initial": 1, "maximum": -1}, "backoff.maximum"),
        ({"initial": 2.0, "maximum": 1.0}, "backoff.maximum"),
        ({"maximum": math.inf}, "backoff.maximum"),
    ],
)
def test_a_backoff_that_cannot_work_is_refused(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}"):
        Backoff(**settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"attempts": 0}, "retry.attempts"),
        ({"initial": -1}, "retry.initial"),
        ({"maximum": 0}, "retry.maximum"),
        ({"initial": 2.0, "maximum": 1.0}, "retry.maximum"),
        ({"on": ValueError}, "retry.on"),
        ({"on": ("ValueError",)}, "retry.on"),
        ({"on": (ValueError, KeyboardInterrupt)}, "retry.on"),
    ],
)
def test_a_retry_that_cannot_work_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}"):
        Retry(**settings)


@pytest.mark.parametrize(
    ("on", "error", "covered"),
    [
        ((Exception,), ValueError(), True),
        ((OSError, ValueError), TimeoutError(), True),
        ((OSError, ValueError), KeyError(), False),
        ((), ValueError(), False),
        # What a handler awaited was cancelled: a failure, though no Exception.
        ((Exception,), asyncio.CancelledError(), True),
        ((OSError,), asyncio.CancelledError(), False),
    ],
)
def test_a_retry_covers_the_errors_that_it_names(
    on: tuple[type[Exception], ...], error: BaseException, covered: bool
) -> None:
    assert Retry(on=on).covers(error) is covered


@pytest.mark.parametrize(
    ("settings", "named"), [({"events": 0}, "commit.events"), ({"seconds": 0}, "commit.seconds")]
)
def test_a_commit_that_cannot_work_is_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}"):
        Commit.every(**settings)


def test_the_defaults_are_the_references() -> None:
    assert Backoff() == Backoff(initial=1.0, maximum=30.0)
    assert Retry() == Retry(attempts=2, initial=0.5, maximum=60.0, on=(Exception,))


def test_commits_of_each_kind() -> None:
    assert Commit.each() == Commit(events=64, seconds=0.001, every_turn=True)
    assert Commit.every() == Commit(events=100, seconds=1.0, every_turn=False)


def test_waits_are_doubled_up_to_the_maximum_and_shortened_by_up_to_a_half() -> None:
    waits = Waits(1.0, 30.0)
    for whole_wait in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0):
        assert whole_wait / 2 <= waits.next() <= whole_wait
    assert waits.attempts == 8


def test_waits_are_jittered() -> None:
    firsts = {Waits(1.0, 30.0).next() for _ in range(50)}
    assert len(firsts) > 40


def test_the_longest_wait_is_the_maximum() -> None:
    waits = Waits(1.0, 30.0)
    assert waits.longest() == 30.0
    assert waits.attempts == 1


def test_waits_begin_again_after_a_success() -> None:
    waits = Waits(1.0, 30.0)
    for _ in range(10):
        waits.next()
    waits.reset()
    assert waits.attempts == 0
    assert waits.next() <= 1.0


def test_an_outage_of_months_overflows_nothing() -> None:
    waits = Waits(1.0, 30.0)
    waits.attempts = 100_000
    assert 15.0 <= waits.next() <= 30.0


# --- dead letters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"stream": ""}, "dead_letter"),
        ({"stream": 5}, "dead_letter"),
        ({"stream": "dead", "limit": 100}, "limit"),
        ({"stream": "dead", "max_len": 0}, "max_len"),
    ],
)
def test_dead_letters_that_cannot_work_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DeadLetters(**settings)


@pytest.mark.parametrize("settings", [{"count": 0}, {"count": 1.5}, {"seconds": 0}, {"seconds": math.nan}])
def test_a_limit_that_cannot_work_is_refused(settings: dict[str, Any]) -> None:
    [name] = settings
    with pytest.raises(ConfigError, match=f"^limit.{name}"):
        DeadLetterLimit(**settings)


def test_the_name_of_a_stream_is_enough() -> None:
    assert checked_dead_letters("dead", ("things",)) == DeadLetters("dead", DeadLetterLimit(100, 60.0), None)
    assert checked_dead_letters(None, ("things",)) is None


@pytest.mark.parametrize("dead_letter", ["auth", DeadLetters("auth"), "", True, 5, ["dead"]])
def test_what_is_no_place_for_dead_letters_is_refused(dead_letter: Any) -> None:
    with pytest.raises(ConfigError, match="^dead_letter"):
        checked_dead_letters(dead_letter, ("things", "auth"))


def test_a_limit_is_spent_and_comes_back_with_time() -> None:
    allowance = Allowance(DeadLetterLimit(count=3, seconds=10))
    assert [allowance.spend(now) for now in (0, 4, 5)] == [True, True, True]
    assert [allowance.spend(now) for now in (5, 9.9)] == [False, False]
    assert allowance.spend(10), "the one of 0 is past"
    assert [allowance.spend(now) for now in (10, 13.9, 14, 15, 15)] == [False, False, True, True, False]


def test_what_was_refused_does_not_count() -> None:
    allowance = Allowance(DeadLetterLimit(count=1, seconds=10))
    assert allowance.spend(0)
    assert not any(allowance.spend(now) for now in range(1, 10))
    assert allowance.spend(10)


@given(
    limit=st.builds(DeadLetterLimit, st.integers(1, 4), st.integers(1, 20)),
    steps=st.lists(st.integers(0, 10), max_size=40),
)
def test_never_are_there_more_in_so_long_and_never_less_than_there_may(
    limit: DeadLetterLimit, steps: list[int]
) -> None:
    allowance = Allowance(limit)
    spent: list[int] = []
    for now in accumulate(steps):
        free = sum(now - limit.seconds < each for each in spent) < limit.count
        assert allowance.spend(now) is free
        if free:
            spent.append(now)
