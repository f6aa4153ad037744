from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import anyio
import pytest

from consuming import Recorder
from mainflux_events import AlreadyHandled, ConfigError, Event, HandlerFailed, Retry, ThingRemoved
from mainflux_events.dispatch import Dispatch
from mainflux_events.gate import Gate
from mainflux_events.hooks import Observers

EVENT = Event(ThingRemoved("t1"), _stream="things", _id="5-1", _fields=[])
AT_ONCE = Retry(attempts=2, initial=0)


class DispatchOfEach(Dispatch):
    """What handles one event after another, as what handles one."""

    async def handle(self, given: Any) -> bool:
        async def only() -> AsyncIterator[Event]:
            yield given

        unhandled: list[bool] = []
        await self.handle_each(only(), unhandled.append)
        return not unhandled


@pytest.fixture(autouse=True, params=[Dispatch, DispatchOfEach])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "WAY", request.param)


WAY = Dispatch


def dispatch(handler: Any, *hooks: Recorder, **settings: Any) -> Dispatch:
    settings = {"retry": AT_ONCE, "timeout": None, "on_failure": "skip"} | settings
    return WAY(handler, observers=Observers(hooks), **settings)


class Failing:
    """Raises at so many calls, then returns."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.times = times
        self.error = error or RuntimeError("broken")
        self.calls = 0

    async def __call__(self, event: Event) -> None:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error


# --- which handlers -------------------------------------------------------------------------------------------------


async def test_a_plain_function_is_called() -> None:
    seen: list[Event] = []
    assert await dispatch(seen.append).handle(EVENT)
    assert seen == [EVENT]


async def test_what_a_handler_returns_is_awaited() -> None:
    finished = asyncio.get_running_loop().create_future()
    done: list[str] = []

    async def coroutine(event: Event, note: str) -> None:
        await asyncio.sleep(0)
        done.append(note)

    def returns_a_future(event: Event) -> Awaitable[None]:
        finished.set_result(None)
        return finished

    assert await dispatch(functools.partial(coroutine, note="partial")).handle(EVENT)
    assert await dispatch(lambda event: coroutine(event, "lambda")).handle(EVENT)
    assert await dispatch(returns_a_future).handle(EVENT)
    assert done == ["partial", "lambda"]
    assert finished.done()


async def test_an_answer_that_says_no_is_an_answer() -> None:
    assert await dispatch(lambda event: False).handle(EVENT)


# --- failing --------------------------------------------------------------------------------------------------------


async def test_a_failing_handler_is_called_again() -> None:
    seen = Recorder()
    handler = Failing(1)
    calling = dispatch(handler, seen)
    assert await calling.handle(EVENT)
    assert (handler.calls, calling.retried) == (2, 1)
    [details] = seen.of("handler_failed")
    assert (details.event, details.attempt, details.error, details.final) == (EVENT, 1, handler.error, False)


async def test_after_the_last_attempt_the_event_is_given_up_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Recorder()
    handler = Failing(3)
    with caplog.at_level(logging.WARNING):
        assert not await dispatch(handler, seen, retry=Retry(attempts=3, initial=0)).handle(EVENT)
    assert [(each.attempt, each.final) for each in seen.of("handler_failed")] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    assert "entry 5-1 of 'things' (thing.remove), attempt 3 of 3, given up" in caplog.text


async def test_or_it_is_raised_with_its_cause() -> None:
    handler = Failing(2)
    with pytest.raises(HandlerFailed) as caught:
        await dispatch(handler, on_failure="raise").handle(EVENT)
    assert caught.value.__cause__ is handler.error
    failed = caught.value
    assert (failed.stream, failed.id, failed.operation, failed.attempts) == (
        "things",
        "5-1",
        "thing.remove",
        2,
    )


async def test_what_is_raised_names_the_entry_and_where_the_cursor_stays() -> None:
    with pytest.raises(HandlerFailed) as caught:
        await dispatch(Failing(2), on_failure="raise").handle(EVENT)
    told = "entry 5-1 of 'things' (thing.remove) was not handled in 2 attempts; the cursor stays before it"
    assert str(caught.value) == told


async def test_the_waits_grow_and_begin_anew_for_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def still(gate: Gate, turn: int, seconds: float) -> bool:
        waits.append(seconds)
        return True

    monkeypatch.setattr(Gate, "still", still)
    calling = dispatch(Failing(100), retry=Retry(attempts=10, initial=0.5))
    await calling.handle(EVENT)
    await calling.handle(EVENT)
    for series in (waits[:9], waits[9:]):
        expected = [0.5, 1, 2, 4, 8, 16, 32, 60, 60]  # shortened by up to a half, and never above a minute
        assert len(series) == len(expected)
        assert all(most / 2 <= wait <= most for wait, most in zip(series, expected, strict=True)), series


async def test_the_longest_wait_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def still(gate: Gate, turn: int, seconds: float) -> bool:
        waits.append(seconds)
        return True

    monkeypatch.setattr(Gate, "still", still)
    await dispatch(Failing(100), retry=Retry(attempts=6, initial=1, maximum=3)).handle(EVENT)
    expected = [1, 2, 3, 3, 3]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, expected, strict=True)), waits


async def test_an_error_that_is_not_worth_another_call_is_final_at_once() -> None:
    seen = Recorder()
    handler = Failing(5, KeyError("k"))
    calling = dispatch(handler, seen, retry=Retry(attempts=5, initial=0, on=(OSError, ValueError)))
    assert not await calling.handle(EVENT)
    assert (handler.calls, calling.retried) == (1, 0)
    assert [(each.attempt, each.final) for each in seen.of("handler_failed")] == [(1, True)]


async def test_an_error_that_is_worth_it_and_then_one_that_is_not() -> None:
    errors = iter([OSError(), KeyError("k")])

    def handle(event: Event) -> None:
        raise next(errors)

    seen = Recorder()
    assert not await dispatch(handle, seen, retry=Retry(9, 0, on=(OSError,))).handle(EVENT)
    assert [type(each.error) for each in seen.of("handler_failed")] == [OSError, KeyError]


async def test_where_there_are_dead_letters_the_event_is_done_with(caplog: pytest.LogCaptureFixture) -> None:
    buried: list[tuple[Event, BaseException, int]] = []

    async def bury(*failed: Any) -> None:
        buried.append(failed)

    handler = Failing(2)
    assert await dispatch(handler, bury=bury).handle(EVENT)
    assert buried == [(EVENT, handler.error, 2)]
    assert "given up" not in caplog.text


async def test_what_is_to_be_raised_is_not_dead_lettered() -> None:
    async def bury(*failed: Any) -> None:
        raise AssertionError("it was")

    with pytest.raises(HandlerFailed):
        await dispatch(Failing(2), on_failure="raise", bury=bury).handle(EVENT)


async def test_a_handler_that_hangs_has_failed_after_its_time() -> None:
    seen = Recorder()
    assert not await dispatch(lambda event: asyncio.Event().wait(), seen, timeout=0.01).handle(EVENT)
    assert [type(details.error) for details in seen.of("handler_failed")] == [TimeoutError, TimeoutError]


# --- cancellation ---------------------------------------------------------------------------------------------------


async def test_something_else_that_was_cancelled_is_a_failure_of_the_handler() -> None:
    async def awaits_what_is_cancelled(event: Event) -> None:
        other = asyncio.ensure_future(asyncio.Event().wait())
        other.cancel()
        await other

    def raises(event: Event) -> None:
        raise asyncio.CancelledError

    assert not await dispatch(awaits_what_is_cancelled).handle(EVENT)
    assert not await dispatch(raises).handle(EVENT)


async def test_the_cancellation_of_the_task_goes_through() -> None:
    seen = Recorder()
    running = asyncio.Event()

    async def hangs(event: Event) -> None:
        running.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(dispatch(hangs, seen, timeout=60).handle(EVENT))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen.seen == [], "it did not fail"


async def test_so_does_that_of_a_scope() -> None:
    handled = False
    with anyio.move_on_after(0.01) as scope:
        handled = await dispatch(lambda event: anyio.sleep_forever()).handle(EVENT)
    assert scope.cancelled_caught
    assert not handled


async def test_a_handlers_own_scope_is_its_own() -> None:
    async def bounded(event: Event) -> None:
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()

    assert await dispatch(bounded).handle(EVENT)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_the_end_of_the_program_is_no_failure(error: type[BaseException]) -> None:
    handling = dispatch(Failing(1, error())).handle(EVENT)
    with pytest.raises(error):
        handling.send(None)


# --- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"handler": None},
        {"retry": 3},
        {"timeout": 0},
        {"timeout": "1"},
        {"timeout": float("nan")},
        {"on_failure": "stop"},
        {"on_failure": None},
    ],
)
def test_what_cannot_work_is_a_config_error_that_names_it(settings: dict[str, Any]) -> None:
    [name] = settings
    with pytest.raises(ConfigError, match=name):
        dispatch(**({"handler": print} | settings))


@pytest.mark.parametrize(("id", "done"), [("5-2", True), ("5-1", False)])
async def test_a_batch_is_handled_by_a_transaction_of_its_last_event_and_by_no_other(
    id: str, done: bool
) -> None:
    def was_committed_before(events: list[Event]) -> None:
        raise AlreadyHandled("things", id)

    batch = [Event(ThingRemoved("t1"), _stream="things", _id=each, _fields=[]) for each in ("5-1", "5-2")]
    handling = Dispatch(
        was_committed_before, retry=AT_ONCE, timeout=None, on_failure="skip", observers=Observers(())
    )
    assert await handling.handle(batch) is done
