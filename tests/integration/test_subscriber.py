"""Consuming: what is handed out, when, and where a subscription begins."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, stored, take, thing
from mainflux_events import (
    Action,
    Commit,
    ConfigError,
    Event,
    EventsError,
    HandlerFailed,
    Lag,
    NotStarted,
    OrgCreated,
    Retry,
    Subscriber,
    SubscriberStats,
    ThingRemoved,
    UnknownAction,
)
from mainflux_events.testing import RedisServer
from support import wait_until


class Counted(Action, tag="test.subscriber.counted"):
    count: int


def another(server: RedisServer, name: str = "audit", **settings: Any) -> Subscriber:
    return Subscriber(server.url, STREAM, name, **settings)


# --- the loop -------------------------------------------------------------------------------------------------------


async def test_events_come_in_order_and_know_where_they_are_from(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, "t1", "t2", "t3")
    events: list[Event] = []
    async for event in subscriber:
        events.append(event)
        if len(events) == 3:
            break
    assert [event.action for event in events] == [ThingRemoved("t1"), ThingRemoved("t2"), ThingRemoved("t3")]
    assert [event.id for event in events] == ids
    assert {event.stream for event in events} == {STREAM}
    assert events[0].raw == ((b"operation", b"thing.remove"), (b"id", b"t1"))


async def test_asking_for_the_next_event_commits_this_one(subscriber: Subscriber, client: Redis) -> None:
    ids = await append(client, "t1", "t2")
    before = await stored(client, "audit")
    async for event in subscriber:
        if thing(event) == "t1":
            assert await stored(client, "audit") == before
        else:
            await wait_until(lambda: _is_stored(client, ids[0]))
            break
    assert await stored(client, "audit") == ids[0]


async def _is_stored(client: Redis, id: str, name: str = "audit") -> bool:
    return await stored(client, name) == id


async def leave_by_break(subscriber: Subscriber) -> None:
    async for event in subscriber:
        if thing(event) == "t2":
            break


async def leave_by_an_error(subscriber: Subscriber) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async for event in subscriber:
            if thing(event) == "t2":
                raise ZeroDivisionError


async def leave_by_cancellation(subscriber: Subscriber) -> None:
    second = asyncio.Event()

    async def consume() -> None:
        async for event in subscriber:
            if thing(event) == "t2":
                second.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await second.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_an_anyio_scope(subscriber: Subscriber) -> None:
    with anyio.CancelScope() as scope:
        async for event in subscriber:
            if thing(event) == "t2":
                scope.cancel()
                await anyio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    "leave", [leave_by_break, leave_by_an_error, leave_by_cancellation, leave_by_an_anyio_scope]
)
async def test_leaving_the_loop_leaves_the_current_event_to_come_again(
    leave: Any, subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, "t1", "t2", "t3")
    await leave(subscriber)
    await wait_until(lambda: _is_stored(client, ids[0]))
    assert await take(subscriber, 2) == ["t2", "t3"]
    assert subscriber.stats == SubscriberStats(
        received=3, handled=2, skipped=0, retried=0, dead_lettered=0, given_up=0
    )


async def test_an_event_can_come_again_and_again(subscriber: Subscriber, client: Redis) -> None:
    # So often that anything which grew with each time would show.
    await append(client, "t1", "t2")
    for _ in range(20_000):
        async for event in subscriber:
            assert thing(event) == "t1"
            break
    assert subscriber.stats.received == 1
    assert await take(subscriber, 2) == ["t1", "t2"]


async def test_after_a_restart_the_uncommitted_event_comes_again(
    subscriber: Subscriber, client: Redis, server: RedisServer
) -> None:
    await append(client, "t1", "t2", "t3")
    await leave_by_break(subscriber)
    await subscriber.aclose()
    async with another(server) as restarted:
        assert await take(restarted, 2) == ["t2", "t3"]


async def test_commit_by_hand_commits_the_current_event(subscriber: Subscriber, client: Redis) -> None:
    ids = await append(client, "t1", "t2")
    async for event in subscriber:
        await subscriber.commit(event)
        assert await stored(client, "audit") == ids[0], "stored when commit returns"
        await subscriber.commit(event)
        break
    assert await take(subscriber, 1) == ["t2"]
    assert subscriber.stats.handled == 1


async def test_only_the_event_that_was_handed_out_last_can_be_committed(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, "t1", "t2")
    events: list[Event] = []
    async for event in subscriber:
        events.append(event)
        if len(events) == 2:
            break
    assert await take(subscriber, 1) == ["t2"]
    before = await stored(client, "audit")
    foreign = Event(ThingRemoved("t2"), _stream="another stream", _id=events[1].id, _fields=[])
    for wrong in (Event(ThingRemoved("t1")), foreign):
        with pytest.raises(ValueError, match="handed out last"):
            await subscriber.commit(wrong)
    await subscriber.commit(events[0])  # is committed already
    assert await stored(client, "audit") == before == events[0].id


async def test_a_second_loop_is_refused(subscriber: Subscriber, client: Redis) -> None:
    await append(client, "t1", "t2")
    async for event in subscriber:
        with pytest.raises(RuntimeError, match="one loop or run"):
            aiter(subscriber)
        with pytest.raises(RuntimeError, match="one loop or run"):
            await anext(subscriber)
        with pytest.raises(RuntimeError, match="one loop or run"):
            await subscriber.run(print)
        if thing(event) == "t2":
            break
    assert await take(subscriber, 1) == ["t2"], "the refused ones have disturbed nothing"


@pytest.mark.parametrize("turns", range(4))
async def test_two_tasks_cannot_ask_at_once(subscriber: Subscriber, client: Redis, turns: int) -> None:
    first = asyncio.ensure_future(anext(subscriber))
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one loop or run"):
        await anext(subscriber)
    with pytest.raises(RuntimeError, match="one loop or run"):
        aiter(subscriber)
    await append(client, "t1")
    assert thing(await first) == "t1"


async def test_after_a_run_that_raised_another_begins_while_its_error_is_looked_at(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, "t1")

    def fail(event: Event) -> None:
        raise ZeroDivisionError

    try:
        await subscriber.run(fail, retry=Retry(attempts=1), on_failure="raise")
    except HandlerFailed:
        assert await take(subscriber, 1) == ["t1"]
    else:
        pytest.fail("run did not raise")


async def test_after_a_loop_that_was_timed_out_another_begins_while_its_error_is_looked_at(
    subscriber: Subscriber, client: Redis
) -> None:
    try:
        async with asyncio.timeout(0.02):
            await take(subscriber, 1)
    except TimeoutError:
        await append(client, "t1")
        assert await take(subscriber, 1) == ["t1"]
    else:
        pytest.fail("there was nothing to take")


# --- steps that are cut short ---------------------------------------------------------------------------------------


async def test_no_event_is_lost_when_a_step_is_cancelled_at_any_turn(
    subscriber: Subscriber, client: Redis
) -> None:
    taken: list[str] = []
    appended = [f"t{number}" for number in range(60)]
    events = aiter(subscriber)

    async def step() -> None:
        taken.append(thing(await anext(events)))

    for number, id in enumerate(appended):
        await append(client, id)
        task = asyncio.create_task(step())
        for _ in range(number % 20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    while len(taken) < len(appended):
        taken.append(thing(await anext(events)))
    assert taken == appended


@pytest.mark.parametrize("bound", [asyncio.timeout, anyio.move_on_after])
async def test_no_event_is_lost_when_a_step_is_timed_out(
    bound: Any, subscriber: Subscriber, client: Redis
) -> None:
    await _take_all_in_short_steps(subscriber, client, bound)


async def test_no_event_is_lost_under_wait_for(subscriber: Subscriber, client: Redis) -> None:
    taken: list[str] = []
    appending = asyncio.create_task(_append_slowly(client, 100))
    while len(taken) < 100:
        with contextlib.suppress(TimeoutError):
            taken.append(thing(await asyncio.wait_for(anext(subscriber), 0.0007)))
    await appending
    assert taken == [f"t{number}" for number in range(100)]


async def _take_all_in_short_steps(subscriber: Subscriber, client: Redis, bound: Any) -> None:
    taken: list[str] = []
    appending = asyncio.create_task(_append_slowly(client, 100))
    while len(taken) < 100:
        with contextlib.suppress(TimeoutError):
            async with contextlib.AsyncExitStack() as stack:
                scope = bound(0.0007)
                await stack.enter_async_context(scope) if bound is asyncio.timeout else stack.enter_context(
                    scope
                )
                taken.append(thing(await anext(subscriber)))
    await appending
    assert taken == [f"t{number}" for number in range(100)]


async def _append_slowly(client: Redis, count: int) -> None:
    for number in range(count):
        await append(client, f"t{number}")
        if number % 10 == 0:
            await asyncio.sleep(0.002)


# --- run ------------------------------------------------------------------------------------------------------------


async def test_run_starts_handles_and_closes(server: RedisServer, client: Redis) -> None:
    handled: list[str] = []
    async with anyio.create_task_group() as group:
        running = await group.start(
            another(server, start="earliest").run, lambda event: handled.append(thing(event))
        )
        ids = await append(client, "t1", "t2")
        await wait_until(lambda: len(handled) == 2)
        group.cancel_scope.cancel()
    assert handled == ["t1", "t2"]
    assert running.stats.handled == 2
    assert await stored(client, "audit") == ids[1]


async def test_what_start_raises_comes_out_of_the_task_groups_start(
    server: RedisServer, client: Redis
) -> None:
    await client.set(STREAM, "a string")
    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            await group.start(another(server).run, print)
    assert caught.group_contains(ConfigError, match="holds a string")


async def test_run_on_a_started_subscriber_leaves_it_open(subscriber: Subscriber, client: Redis) -> None:
    await append(client, "t1", "t2")
    handling = asyncio.Event()

    async def handle(event: Event) -> None:
        if thing(event) == "t2":
            handling.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(subscriber.run(handle))
    await handling.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await take(subscriber, 1) == ["t2"], "the handler did not return, so the event comes again"
    assert task.cancelled()
    assert subscriber.stats.handled == 1


async def test_after_a_run_that_was_cancelled_another_begins_while_its_task_is_there(
    subscriber: Subscriber, client: Redis
) -> None:
    first = asyncio.create_task(subscriber.run(print))
    await append(client, "t0")
    await wait_until(lambda: subscriber.stats.handled)
    first.cancel()
    await asyncio.wait([first])
    handled: list[str] = []
    second = asyncio.create_task(subscriber.run(lambda event: handled.append(thing(event))))
    await append(client, "t1")
    await wait_until(lambda: handled)
    second.cancel()
    await asyncio.wait([second])
    assert handled == ["t1"]


async def test_a_failed_event_is_given_up_and_the_next_is_handled(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, "t1", "t2")
    calls: list[str] = []

    def handle(event: Event) -> None:
        calls.append(thing(event))
        if thing(event) == "t1":
            raise ZeroDivisionError

    task = asyncio.create_task(subscriber.run(handle, retry=Retry(attempts=3, initial=0)))
    await wait_until(lambda: _is_stored(client, ids[1]))
    task.cancel()
    await asyncio.wait([task])
    assert calls == ["t1", "t1", "t1", "t2"]
    assert subscriber.stats == SubscriberStats(
        received=2, handled=1, skipped=0, retried=2, dead_lettered=0, given_up=1
    )


async def test_a_failed_event_is_raised_and_the_cursor_stays(subscriber: Subscriber, client: Redis) -> None:
    ids = await append(client, "t1", "t2")

    def handle(event: Event) -> None:
        if thing(event) == "t2":
            raise ZeroDivisionError

    with pytest.raises(HandlerFailed) as caught:
        await subscriber.run(handle, retry=Retry(attempts=2, initial=0), on_failure="raise")
    assert caught.value.id == ids[1]
    await wait_until(lambda: _is_stored(client, ids[0]))
    assert subscriber.stats == SubscriberStats(
        received=2, handled=1, skipped=0, retried=1, dead_lettered=0, given_up=0
    )
    assert await take(subscriber, 1) == ["t2"]


async def test_a_handler_may_commit_by_hand_and_then_fail(subscriber: Subscriber, client: Redis) -> None:
    await append(client, "t1", "t2")
    calls: list[str] = []

    async def handle(event: Event) -> None:
        calls.append(thing(event))
        await subscriber.commit(event)
        if thing(event) == "t1":
            raise ZeroDivisionError
        await subscriber.aclose()

    await subscriber.run(handle, retry=Retry(attempts=1))
    assert calls == ["t1", "t2"]
    assert (subscriber.stats.handled, subscriber.stats.given_up) == (2, 0)


async def test_handlers_that_never_await_leave_the_loop_its_turns(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, *(f"t{number}" for number in range(5000)))
    handled = 0
    largest = 0

    def handle(event: Event) -> None:
        nonlocal handled
        handled += 1

    task = asyncio.create_task(subscriber.run(handle))
    while handled < 5000:
        before = handled
        await asyncio.sleep(0)
        largest = max(largest, handled - before)
    task.cancel()
    await asyncio.wait([task])
    assert 0 < largest <= 64


async def test_events_that_are_passed_over_leave_the_loop_its_turns_too(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *(f"t{number}" for number in range(5000)))
    async with another(server, start="earliest", actions=[OrgCreated]) as subscriber:
        task = asyncio.create_task(subscriber.run(print))
        largest = 0
        while subscriber.stats.skipped < 5000:
            before = subscriber.stats.skipped
            await asyncio.sleep(0)
            largest = max(largest, subscriber.stats.skipped - before)
        task.cancel()
        await asyncio.wait([task])
    assert 0 < largest <= 64


# --- what is handed out ---------------------------------------------------------------------------------------------


async def test_what_cannot_be_handled_is_passed_over_and_iteration_goes_on(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    await client.xadd(STREAM, {"operation": "nobody.knows", "id": "1"})
    await client.xadd(STREAM, {"operation": "test.subscriber.counted", "count": "many"})
    await client.xadd(STREAM, {"no": "operation"})
    await client.xadd(STREAM, {b"\xff": b"\xfe", "operation": b"\xfd"})
    await client.xadd(STREAM, {"operation": "test.subscriber.counted", "count": "[" * 100_000})
    await client.xadd(STREAM, {"operation": "test.subscriber.counted", "count": "9" * 5000})
    [last] = await append(client, "t1")
    async with another(server, start="earliest", hooks=seen) as subscriber:
        assert await take(subscriber, 1) == ["t1"]
        assert subscriber.stats == SubscriberStats(
            received=7, handled=0, skipped=3, retried=0, dead_lettered=0, given_up=3
        )
    assert len(seen.of("skipped")) == 6
    assert await stored(client, "audit") == seen.of("skipped")[-1].id < last


async def test_unknown_operations_can_be_had(server: RedisServer, client: Redis) -> None:
    await client.xadd(STREAM, {"operation": "nobody.knows", "id": "1", "evt_org_id": "o1"})
    async with another(server, start="earliest", on_unknown="yield") as subscriber:
        event = await anext(subscriber)
    assert event.action == UnknownAction("nobody.knows", {"id": "1"})
    assert event.org_id == "o1"


async def test_only_the_actions_that_were_asked_for_come(server: RedisServer, client: Redis) -> None:
    await append(client, "t1", "t2")
    await client.xadd(STREAM, {"operation": "org.create", "id": "o1"})
    async with another(server, start="earliest", actions=[OrgCreated]) as subscriber:
        event = await anext(subscriber)
    assert event.action == OrgCreated("o1")
    assert subscriber.stats.skipped == 2


async def test_several_streams_have_each_their_cursor(server: RedisServer, client: Redis) -> None:
    streams = ["first", "second", "third"]
    appended = {stream: [f"{stream}{number}" for number in range(150)] for stream in streams}
    last = {stream: (await append(client, *ids, stream=stream))[-1] for stream, ids in appended.items()}
    taken: dict[str, list[str]] = {stream: [] for stream in streams}
    async with Subscriber(server.url, streams, "audit", start="earliest") as subscriber:
        async for event in subscriber:
            taken[event.stream].append(thing(event))
            if sum(map(len, taken.values())) == 450:
                await subscriber.commit(event)
                break
        assert {stream: lag.entries for stream, lag in (await subscriber.lag()).items()} == dict.fromkeys(
            streams, 0
        )
    assert taken == appended
    assert {stream: await stored(client, "audit", stream) for stream in streams} == last


# --- where to begin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("appended", [0, 3])
async def test_new_is_the_end_of_the_stream_and_stored_at_once(
    appended: int, server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *(f"t{number}" for number in range(appended)))
    async with another(server):
        assert await stored(client, "audit") == (ids[-1] if ids else "0-0")


async def test_what_is_appended_while_a_new_subscription_is_stopped_is_not_lost(
    server: RedisServer, client: Redis
) -> None:
    async with another(server):
        pass
    await append(client, "t1")
    async with another(server) as subscriber:
        assert await take(subscriber, 1) == ["t1"]


async def test_earliest_is_the_first_entry(server: RedisServer, client: Redis) -> None:
    await append(client, "t1", "t2")
    async with another(server, start="earliest") as subscriber:
        assert await take(subscriber, 2) == ["t1", "t2"]


async def test_an_id_begins_after_that_entry(server: RedisServer, client: Redis) -> None:
    ids = await append(client, "t1", "t2", "t3")
    async with another(server, start=ids[1]) as subscriber:
        assert await stored(client, "audit") == ids[1]
        assert await take(subscriber, 1) == ["t3"]


async def test_a_datetime_begins_with_that_millisecond(server: RedisServer, client: Redis) -> None:
    moment = datetime(2026, 6, 26, 8, 0, 0, 500_000, tzinfo=UTC)
    milliseconds = 1_782_460_800_500
    for id in (f"{milliseconds - 1}-99", f"{milliseconds}-0", f"{milliseconds}-1"):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": id}, id=id)
    async with another(server, start=moment) as subscriber:
        assert await take(subscriber, 2) == [f"{milliseconds}-0", f"{milliseconds}-1"]


async def test_a_timedelta_is_counted_back_from_now(server: RedisServer, client: Redis) -> None:
    now = int(time.time() * 1000)
    for age in (7_200_000, 1_800_000, 0):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": str(age)}, id=f"{now - age}-0")
    async with another(server, start=timedelta(hours=1)) as subscriber:
        assert await take(subscriber, 2) == ["1800000", "0"]


@pytest.mark.parametrize("start", ["new", "earliest", "9999999999999-0", timedelta.max])
async def test_start_counts_only_where_no_cursor_is_stored(
    start: Any, server: RedisServer, client: Redis
) -> None:
    ids = await append(client, "t1", "t2", "t3")
    await client.set("mainflux:cursor:audit:things", ids[0])
    async with another(server, start=start) as subscriber:
        assert await take(subscriber, 2) == ["t2", "t3"]


async def test_two_that_boot_together_begin_at_the_same_place(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *(f"t{number}" for number in range(50)))
    subscribers = [another(server, start=id) for id in ids]
    await asyncio.gather(*(subscriber.start() for subscriber in subscribers))
    begins = {subscriber._cursors[STREAM].handled for subscriber in subscribers}
    await asyncio.gather(*(subscriber.aclose() for subscriber in subscribers))
    assert begins == {await stored(client, "audit")}


async def test_a_stream_of_another_type_is_refused_at_start(server: RedisServer, client: Redis) -> None:
    await client.rpush(STREAM, "5-1")
    with pytest.raises(ConfigError, match="'things' holds a list, not a stream"):
        await another(server).start()


# --- lag ------------------------------------------------------------------------------------------------------------


async def test_lag_is_told_at_both_ends_and_counted_in_between(server: RedisServer, client: Redis) -> None:
    for second in range(1, 11):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{second}"}, id=f"{second}000-0")
    async with another(server, start="earliest") as subscriber:
        assert await subscriber.lag() == {STREAM: Lag(10, 9.0)}
        await take(subscriber, 4)  # the fourth is in hand
        assert await subscriber.lag() == {STREAM: Lag(7, 7.0)}
        async for event in subscriber:
            if thing(event) == "t10":
                await subscriber.commit(event)
                break
        assert await subscriber.lag() == {STREAM: Lag(0, 0.0)}


async def test_lag_from_the_middle_of_a_stream_is_told_in_seconds_until_it_is_read_to_its_end(
    server: RedisServer, client: Redis
) -> None:
    for second in range(1, 101):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{second}"}, id=f"{second}000-0")
    async with another(server, start="4000-0") as subscriber:
        assert await subscriber.lag() == {STREAM: Lag(None, 96.0)}
        await take(subscriber, 90)
        [lag] = (await subscriber.lag()).values()
        assert lag == Lag(96 - 89, 7.0)


async def test_lag_of_a_stream_that_is_not_there_is_none(subscriber: Subscriber) -> None:
    assert await subscriber.lag() == {STREAM: Lag(0, 0.0)}


async def test_lag_that_cannot_be_asked_for_is_an_error_of_this_package(
    subscriber: Subscriber, client: Redis
) -> None:
    await client.set(STREAM, "a string")
    with pytest.raises(EventsError, match="things.*WRONGTYPE"):
        await subscriber.lag()
    await client.delete(STREAM)


# --- life -----------------------------------------------------------------------------------------------------------


async def test_before_start_nothing_can_be_asked(server: RedisServer) -> None:
    subscriber = another(server)
    with pytest.raises(NotStarted):
        aiter(subscriber)
    with pytest.raises(NotStarted):
        await anext(subscriber)
    with pytest.raises(NotStarted):
        await subscriber.lag()
    with pytest.raises(NotStarted):
        await subscriber.commit(Event(ThingRemoved("t1")))
    await subscriber.aclose()


async def test_a_subscriber_is_used_once(subscriber: Subscriber) -> None:
    with pytest.raises(RuntimeError, match="used before"):
        await subscriber.start()
    await subscriber.aclose()
    with pytest.raises(RuntimeError, match="used before"):
        await subscriber.start()


async def test_closing_ends_a_loop_in_another_task(subscriber: Subscriber) -> None:
    async def consume() -> str:
        async for _ in subscriber:
            pass
        return "ended"

    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    await subscriber.aclose()
    assert await task == "ended"


async def test_a_new_loop_over_a_closed_subscriber_is_refused(subscriber: Subscriber) -> None:
    await subscriber.aclose()
    with pytest.raises(EventsError, match="is closed; make another one"):
        aiter(subscriber)
    with pytest.raises(EventsError, match="is closed; make another one"):
        await subscriber.run(print)


async def test_closed_before_it_was_started_it_cannot_be_used(server: RedisServer) -> None:
    subscriber = Subscriber(server.url, "things", "audit")
    await subscriber.aclose()
    with pytest.raises(EventsError, match="is closed; make another one"):
        aiter(subscriber)


async def test_whoever_closes_meanwhile_waits_for_the_end(
    fresh_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.CLOSE_BOUND", 0.2)
    async with Redis.from_url(fresh_server.url) as client:
        subscriber = Subscriber(fresh_server.url, "things", "audit", start="earliest")
        await subscriber.start()
        await append(client, "t1")
        events = aiter(subscriber)
        await anext(events)
        fresh_server.hang()
        asking = asyncio.create_task(anext(events))  # type: ignore[arg-type]
        first = asyncio.create_task(subscriber.aclose())
        await asyncio.sleep(0)
        assert not first.done()
        await subscriber.aclose()
        assert subscriber._closed.is_set()
        await first
        with pytest.raises(StopAsyncIteration):
            await asking
        fresh_server.resume()


async def test_retries_are_counted_while_the_handler_still_runs(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, "t1")

    def refuse(event: Event) -> None:
        raise ValueError

    task = asyncio.create_task(subscriber.run(refuse, retry=Retry(attempts=3, initial=0.001)))
    await wait_until(lambda: subscriber.stats.given_up == 1)
    assert subscriber.stats.retried == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert subscriber.stats.retried == 2


async def test_an_action_class_that_cannot_be_read_stops_nobody(server: RedisServer, client: Redis) -> None:
    class Unfinished(Action, tag="unfinished.action"):
        value: NotDefinedAnywhere  # type: ignore[name-defined]  # noqa: F821

    await client.xadd("things", {"operation": "unfinished.action", "value": "1"})
    await append(client, "t1")
    async with Subscriber(server.url, "things", "audit", start="earliest") as subscriber:
        event = await anext(aiter(subscriber))
        assert event.action == ThingRemoved("t1")
        assert subscriber.stats.given_up == 1


def test_an_action_class_that_cannot_be_read_cannot_be_asked_for() -> None:
    class Unfinished(Action, tag="unfinished.wanted"):
        value: NotDefinedAnywhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigError, match="Unfinished"):
        Subscriber("redis://localhost", "things", "audit", actions=[Unfinished])


def test_no_actions_at_all_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="actions"):
        Subscriber("redis://localhost", "things", "audit", actions=[])


async def test_closing_ends_a_run_whose_handler_is_at_work_when_it_returns(
    subscriber: Subscriber, client: Redis
) -> None:
    subscriber._close_bound = 0.2
    [before, _, _] = ids = await append(client, "t1", "t2", "t3")
    working, go_on = asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def handle(event: Event) -> None:
        handled.append(thing(event))
        if thing(event) == "t2":
            working.set()
            await go_on.wait()

    task = asyncio.create_task(subscriber.run(handle))
    await working.wait()
    await subscriber.aclose()
    go_on.set()
    await task
    assert handled == ["t1", "t2"]
    assert await stored(client, "audit") == before == ids[0], "so it comes again"
    assert subscriber.stats.handled == 1


async def test_after_closing_nothing_can_be_committed(subscriber: Subscriber, client: Redis) -> None:
    await append(client, "t1")
    event = await anext(subscriber)
    await subscriber.aclose()
    with pytest.raises(EventsError, match="closed"):
        await subscriber.commit(event)


async def test_start_and_close_in_different_tasks(server: RedisServer, client: Redis) -> None:
    subscriber = another(server)
    await asyncio.create_task(subscriber.start())
    await append(client, "t1")
    assert await asyncio.create_task(take(subscriber, 1)) == ["t1"]
    await asyncio.create_task(subscriber.aclose())


async def test_closing_while_it_starts_ends_the_start(server: RedisServer) -> None:
    for turns in range(12):
        subscriber = another(server, f"audit{turns}")
        starting = asyncio.create_task(subscriber.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        await subscriber.aclose()
        with contextlib.suppress(EventsError, RuntimeError):
            await starting
        # That nothing is left is seen by the fixture, and by the tasks.
        assert not [
            task for task in asyncio.all_tasks() if task.get_name() == f"mainflux_events audit{turns}"
        ]


async def test_a_cancelled_background_task_is_no_silence(subscriber: Subscriber) -> None:
    for task in asyncio.all_tasks():
        if task.get_name() == "mainflux_events audit":
            task.cancel()
    with pytest.raises(EventsError, match="died: somebody cancelled it"):
        await anext(subscriber)


@pytest.mark.parametrize(
    "settings",
    [
        {"start": "yesterday"},
        {"commit": "each"},
        {"on_unknown": "raise"},
        {"actions": [int]},
        {"hooks": [print]},
    ],
)
def test_what_cannot_work_is_a_config_error_that_names_it(settings: dict[str, Any]) -> None:
    [name] = settings
    with pytest.raises(ConfigError, match=name):
        Subscriber("redis://localhost", STREAM, "audit", **settings)


@pytest.mark.parametrize(("stream", "name"), [("", "audit"), (STREAM, ""), (STREAM, "a:b"), ([], "audit")])
def test_a_stream_or_a_name_that_cannot_work_is_a_config_error(stream: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^(stream|name):"):
        Subscriber("redis://localhost", stream, name)


# --- memory ---------------------------------------------------------------------------------------------------------


async def test_what_is_read_ahead_is_bounded_in_bytes(server: RedisServer, client: Redis) -> None:
    for _ in range(100):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": "t", "filling": b"x" * 1_000_000})
    async with another(server, start="earliest") as subscriber:
        tracemalloc.start()
        try:
            assert len(await take(subscriber, 100)) == 100
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # A batch in hand, one read ahead, and what the parser holds of it, each of four entries or so; ten at the first.
    assert peak < 45_000_000


async def test_a_policy_of_commits_leaves_nothing_behind(server: RedisServer, client: Redis) -> None:
    await append(client, "t1")
    subscriber = another(server, start="earliest", commit=Commit.every(events=1000, seconds=1000))
    async with subscriber:
        await take(subscriber, 1)
    gc.collect()
    timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
    assert not [timer for timer in timers if "Committer" in repr(timer)]
