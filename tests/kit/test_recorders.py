"""Recorders, and waiting for a condition."""

from __future__ import annotations

import asyncio

import pytest

from mainflux_events import Event, Hooks, ThingRemoved
from mainflux_events.hooks import ReconnectedDetails
from mainflux_events.testing import EventRecorder, HookRecorder, wait_for

ONE, TWO = Event(ThingRemoved("t1")), Event(ThingRemoved("t2"))
RECONNECTED = ReconnectedDetails("things", "read")


async def test_what_is_handled_is_kept_in_order() -> None:
    recorder = EventRecorder()
    for event in (TWO, ONE):
        await recorder(event)
    assert recorder.events == [TWO, ONE]
    assert recorder.actions == [ThingRemoved("t2"), ThingRemoved("t1")]


async def test_of_batches_the_events_are_kept() -> None:
    batches: list[list[Event]] = []
    recorder = EventRecorder(batches.append)
    await recorder([TWO, ONE])
    await recorder([ONE])
    assert recorder.events == [TWO, ONE, ONE]
    assert batches == [[TWO, ONE], [ONE]]


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_what_a_handler_raises_goes_through_and_its_event_is_not_kept(kind: str) -> None:
    def plain(event: Event) -> None:
        if event is TWO:
            raise ZeroDivisionError

    async def coroutine(event: Event) -> None:
        await asyncio.sleep(0)
        plain(event)

    recorder = EventRecorder({"plain": plain, "coroutine": coroutine}[kind])
    await recorder(ONE)
    with pytest.raises(ZeroDivisionError):
        await recorder(TWO)
    assert recorder.events == [ONE]


async def test_so_many_events_are_waited_for() -> None:
    recorder = EventRecorder()
    waiting = asyncio.create_task(recorder.wait_for(2))
    await recorder(ONE)
    await asyncio.sleep(0)
    assert not waiting.done()
    await recorder(TWO)
    assert await waiting == [ONE, TWO]


async def test_where_they_do_not_come_it_says_which_did() -> None:
    recorder = EventRecorder()
    await recorder(ONE)
    with pytest.raises(AssertionError, match=r"not within 0.01 s: 2 handled events; there are .*id='t1'"):
        await recorder.wait_for(2, timeout=0.01)


async def test_every_hook_is_recorded() -> None:
    recorder, names = HookRecorder(), [name for name in vars(Hooks) if not name.startswith("_")]
    assert "gap" in names
    for name in names:
        getattr(recorder, name)(RECONNECTED)
    assert recorder.seen == [(name, RECONNECTED) for name in names]
    assert recorder.of("gap") == await recorder.wait_for("gap") == [RECONNECTED]


async def test_a_hook_that_there_is_not_is_an_error_and_no_empty_list() -> None:
    with pytest.raises(ValueError, match="no hook 'gaps'; there are .*gap"):
        HookRecorder().of("gaps")


async def test_where_a_hook_is_not_called_it_says_which_were() -> None:
    recorder = HookRecorder()
    recorder.reconnected(RECONNECTED)
    with pytest.raises(AssertionError, match=r"'gap', 1 times; there are .*'reconnected'"):
        await recorder.wait_for("gap", timeout=0.01)


# --- wait_for -------------------------------------------------------------------------------------------------------


async def test_it_gives_what_the_condition_gave_as_soon_as_that_is_true() -> None:
    values = iter([0, None, "", "there"])
    assert await wait_for(lambda: next(values)) == "there"


async def test_a_condition_may_await() -> None:
    async def there() -> int:
        await asyncio.sleep(0)
        return 1

    assert await wait_for(there) == 1


async def test_after_its_time_it_says_what_was_waited_for_and_what_there_was() -> None:
    seen: list[int] = []
    with pytest.raises(AssertionError) as missed:
        await wait_for(lambda: seen, timeout=0.01)
    assert "not within 0.01 s: " in str(missed.value)
    assert "await wait_for(lambda: seen, timeout=0.01)" in str(missed.value)
    assert "what there was last: []" in str(missed.value)


async def test_what_is_waited_for_can_be_told() -> None:
    with pytest.raises(AssertionError, match="not within 0.01 s: a miracle"):
        await wait_for(lambda: False, timeout=0.01, what="a miracle")


async def test_a_condition_that_hangs_is_bounded_too() -> None:
    with pytest.raises(AssertionError, match="what there was last: nothing yet"):
        await wait_for(lambda: asyncio.Event().wait(), timeout=0.01)


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError])
async def test_what_a_condition_raises_goes_through(error: type[Exception]) -> None:
    def fail() -> None:
        raise error("of the condition")

    with pytest.raises(error, match="of the condition"):
        await wait_for(fail)
