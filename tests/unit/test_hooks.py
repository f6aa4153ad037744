"""Observers: each is told, none can do harm."""

from __future__ import annotations

import asyncio
import logging

import pytest

from histories import Recorder
from mainflux_events import ConfigError, Hooks, ThingRemoved
from mainflux_events.hooks import (
    Observers,
    Occasionally,
    ReconnectedDetails,
    SkippedDetails,
    UndeliveredDetails,
)
from mainflux_events.resp import Append
from mainflux_events.wire import pack_raw

DETAILS = ReconnectedDetails("things", "append")


class Failing(Hooks):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def reconnected(self, details: ReconnectedDetails) -> None:
        raise self.error


def test_the_base_class_observes_nothing() -> None:
    hooks = Hooks()
    names = [name for name in vars(Hooks) if not name.startswith("_")]
    assert "dropped" in names
    for name in names:
        assert getattr(hooks, name)(DETAILS) is None


def test_each_of_several_is_told_in_order() -> None:
    told: list[str] = []

    class Named(Hooks):
        def __init__(self, name: str) -> None:
            self.name = name

        def reconnected(self, details: ReconnectedDetails) -> None:
            told.append(f"{self.name} of {details.stream}")

    Observers([Named("a"), Named("b")]).notify("reconnected", DETAILS)
    assert told == ["a of things", "b of things"]


def test_one_may_be_given_without_a_list() -> None:
    recorder = Recorder()
    Observers(recorder).notify("reconnected", DETAILS)
    assert recorder.reconnects == [DETAILS]


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), asyncio.InvalidStateError()])
def test_one_that_raises_is_logged_and_harmless(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    with caplog.at_level(logging.ERROR, "mainflux_events"):
        Observers([Failing(error), recorder]).notify("reconnected", DETAILS)
    assert recorder.reconnects == [DETAILS]
    assert "hook_failed: Failing.reconnected raised" in caplog.text


def test_the_users_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        Observers(Failing(KeyboardInterrupt())).notify("reconnected", DETAILS)


@pytest.mark.parametrize("rubbish", [None, 5, Hooks, [Hooks], [None], "hooks", [print]])
def test_what_is_no_hook_is_refused(rubbish: object) -> None:
    with pytest.raises(ConfigError, match="^hooks: an instance of a subclass of Hooks is wanted, not "):
        Observers(rubbish)  # type: ignore[arg-type]


def test_a_coroutine_function_is_refused_for_nobody_would_await_it() -> None:
    class Awaited(Hooks):
        async def reconnected(self, details: ReconnectedDetails) -> None:  # type: ignore[override]
            pass

    with pytest.raises(ConfigError, match=r"^hooks: Awaited\.reconnected is a coroutine function"):
        Observers(Awaited())


def test_none_at_all_is_false() -> None:
    assert not Observers([])
    assert Observers([Hooks()])


def test_details_are_frozen() -> None:
    with pytest.raises(AttributeError):
        DETAILS.stream = "other"  # type: ignore[misc]


APPEND = Append("things", None)


def lost(*fields: tuple[bytes, bytes]) -> UndeliveredDetails:
    return UndeliveredDetails("things", "refused", pack_raw(fields, APPEND), APPEND)


def test_a_lost_event_can_be_had_again() -> None:
    event = lost((b"operation", b"thing.remove"), (b"id", b"t1")).event()
    assert event.action == ThingRemoved(id="t1")


def test_a_lost_event_says_what_it_was() -> None:
    details = lost((b"operation", b"thing.remove"), (b"id", b"t1"))
    assert (details.stream, details.operation, details.reason) == ("things", "thing.remove", "refused")
    assert details.fields == ((b"operation", b"thing.remove"), (b"id", b"t1"))


def test_what_is_lost_or_skipped_is_shown_without_its_content() -> None:
    fields = ((b"operation", b"thing.remove"), (b"id", b"payload"))
    skipped = SkippedDetails("things", "1-0", "thing.remove", "not known", fields)
    assert repr(lost(*fields)) == (
        "UndeliveredDetails(stream='things', operation='thing.remove', reason='refused')"
    )
    assert repr(skipped) == (
        "SkippedDetails(stream='things', id='1-0', operation='thing.remove', reason='not known')"
    )


def test_a_lost_event_keeps_its_fields_to_be_forwarded() -> None:
    fields = ((b"operation", b"not.known"), (b"x", b"\xff"))
    assert lost(*fields).event().raw == fields


def test_occasionally_lets_the_first_through_and_then_one_in_its_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("mainflux_events.hooks.time.monotonic", lambda: now)
    often = Occasionally(10.0)
    assert [often(), often()] == [True, False]
    now = 109.9
    assert not often()
    now = 110.0
    assert [often(), often()] == [True, False]
