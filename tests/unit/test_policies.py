"""Settings that are refused, and the waits that the others give."""

from __future__ import annotations

import math

import pytest

from mainflux_events.errors import ConfigError
from mainflux_events.policies import Backoff, Commit, Retry, Waits, positive, whole


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
    ("settings", "named"), [({"attempts": 0}, "retry.attempts"), ({"initial": -1}, "retry.initial")]
)
def test_a_retry_that_cannot_work_is_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}"):
        Retry(**settings)


@pytest.mark.parametrize(
    ("settings", "named"), [({"events": 0}, "commit.events"), ({"seconds": 0}, "commit.seconds")]
)
def test_a_commit_that_cannot_work_is_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}"):
        Commit.every(**settings)


def test_the_defaults_are_the_references() -> None:
    assert Backoff() == Backoff(initial=1.0, maximum=30.0)
    assert Retry() == Retry(attempts=2, initial=0.5)


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
