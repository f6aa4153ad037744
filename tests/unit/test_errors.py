"""Errors: what they say is made of what they hold, so they may go from one process to another."""

from __future__ import annotations

import pickle
import re

import pytest

import mainflux_events
from mainflux_events import errors

SAMPLES: list[errors.EventsError] = [
    errors.AccessRefused("redis at localhost:6379", "the server refuses the credentials"),
    errors.AlreadyHandled("things", "1-1"),
    errors.BufferFull(10, 1000),
    errors.ConfigError("partitions: a number is wanted"),
    errors.CursorCorrupt("mainflux:cursor:audit:things", "holds 'garbage'"),
    errors.DeadLetterLimitReached("things", "1-1", "dead", 100, 60.0),
    errors.DecodeError("thing.create", "name", "it is not there", "things", "1-1"),
    errors.DeliveredTooOften("things", "1-1", 10),
    errors.EmptyName(),
    errors.EmptyStream(),
    errors.EncodeError("thing.create", "metadata", "NaN cannot be written"),
    errors.EventsError("it died"),
    errors.HandlerFailed("things", "1-1", "thing.create", 2, 3),
    errors.LeaseLost("audit"),
    errors.NotStarted("the publisher"),
    errors.PublisherClosed("things", "is closed"),
    errors.StreamGap("things", "1-1", "5-1", 3, True),
    errors.StreamReset("things", "5-1", "1-1", "0-0"),
    errors.SubscriberBusy("audit", "things"),
    errors.Undelivered(2, "the buffer was full"),
]


def test_there_is_a_sample_of_each() -> None:
    assert [type(error).__name__ for error in SAMPLES] == errors.__all__


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_that_was_pickled_is_the_same(error: errors.EventsError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_is_of_the_one_module_that_all_are_imported_from(name: str) -> None:
    kind = getattr(errors, name)
    assert kind is getattr(mainflux_events, name)
    assert f"{kind.__module__}.{kind.__qualname__}" == f"mainflux_events.errors.{name}"


def test_the_tree_that_is_drawn_is_that_of_the_classes() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+)", errors.__doc__ or "", re.MULTILINE)
    above: list[str] = []
    bases: dict[str, str] = {}
    for lines, name in drawn:
        depth = len(lines) // 4
        del above[depth:]
        bases[name] = above[-1] if above else "Exception"
        above.append(name)
    assert bases == {name: getattr(errors, name).__bases__[0].__name__ for name in errors.__all__}
