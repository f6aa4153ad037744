"""A consumer group: who gets what, for how long it is theirs, and what becomes of it when they are gone."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, running, take, thing, things
from grouped import GROUP, consumers, member, pending, read_as
from mainflux_events import (
    Commit,
    ConfigError,
    DeliveredTooOften,
    EmptyStream,
    Event,
    EventsError,
    GroupSubscriber,
    Lag,
    NotStarted,
    Retry,
    ThingRemoved,
    read_dead_letters,
)
from mainflux_events.groups import Member
from mainflux_events.link import Link
from mainflux_events.nodes import ask
from mainflux_events.testing import RedisServer
from support import wait_until

GIVEN_BACK = "given-back"
SILENT = 100_000  # milliseconds: longer than anybody waits before taking something over


@pytest.fixture
async def group(client: Redis) -> None:
    """The group, at the beginning of an empty stream."""
    await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)


# --- where it begins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("new", "t4"),
        ("earliest", "t1"),
        ("2000-0", "t3"),
        (datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC), "t2"),
        (timedelta.max, "t1"),
    ],
)
async def test_a_new_group_begins_where_it_is_told(
    start: Any, first: str, server: RedisServer, client: Redis
) -> None:
    for second in (1, 2, 3):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{second}"}, id=f"{second}000-0")
    async with member(server, start=start) as subscriber:
        await append(client, "t4")
        assert await take(subscriber, 1) == [first]


async def test_the_group_and_the_stream_are_made_at_once(server: RedisServer, client: Redis) -> None:
    async with member(server, start="new"):
        pass
    [group] = await client.xinfo_groups(STREAM)
    assert (group["name"], group["last-delivered-id"]) == (GROUP.encode(), b"0-0")


async def test_start_counts_only_where_there_is_no_group(server: RedisServer, client: Redis) -> None:
    await append(client, "t1", "t2")
    await client.xgroup_create(STREAM, GROUP, "0")
    async with member(server, start="new") as subscriber:
        assert await take(subscriber, 1) == ["t1"]


async def test_several_streams_have_each_their_group(server: RedisServer, client: Redis) -> None:
    streams = ["first", "second", "third"]
    for stream in streams:
        await append(client, *(f"{stream}{number}" for number in range(100)), stream=stream)
    taken: dict[str, list[str]] = {stream: [] for stream in streams}
    async with GroupSubscriber(server.url, streams, GROUP, start="earliest") as subscriber:
        async for event in subscriber:
            taken[event.stream].append(thing(event))
            if sum(map(len, taken.values())) == 300:
                await subscriber.commit(event)
                break
    assert taken == {stream: [f"{stream}{number}" for number in range(100)] for stream in streams}
    for stream in streams:
        assert await pending(client, stream) == {}


# --- names ----------------------------------------------------------------------------------------------------------


async def test_a_consumer_is_named_after_its_process_when_it_starts(server: RedisServer) -> None:
    first, second = member(server), member(server)
    assert first.consumer == ""
    async with first, second:
        assert f"-{os.getpid()}-" in first.consumer
        assert first.consumer != second.consumer


@pytest.mark.usefixtures("group")
async def test_under_a_name_of_ones_own_what_was_left_comes_at_once(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(4))
    await read_as(client, "worker", 3)
    async with member(server, consumer="worker", claim_after=3600) as subscriber:
        assert await take(subscriber, 4) == things(4)


# --- acknowledging --------------------------------------------------------------------------------------------------


async def test_asking_for_the_next_event_acknowledges_this_one(server: RedisServer, client: Redis) -> None:
    ids = await append(client, "t1", "t2")

    async def only_the_second_is_pending() -> bool:
        return await pending(client) == {subscriber.consumer: [(ids[1], 1)]}

    async with member(server) as subscriber:
        async for event in subscriber:
            assert (event.id, 1) in (await pending(client))[subscriber.consumer]
            if thing(event) == "t2":
                await wait_until(only_the_second_is_pending)
                break


async def test_the_policy_says_how_many_are_acknowledged_together(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(25))
    handled = 0
    async with member(server, commit=Commit.every(events=10, seconds=1000)) as subscriber:
        async for _ in subscriber:
            oldest, *_ = (await pending(client))[subscriber.consumer]
            assert oldest == (ids[handled // 10 * 10], 1)
            handled += 1
            if handled == 25:
                break


async def test_commit_acknowledges_by_hand(server: RedisServer, client: Redis) -> None:
    await append(client, "t1", "t2")
    async with member(server) as subscriber:
        event = await anext(subscriber)
        await subscriber.commit(event)
        assert event.id not in dict((await pending(client)).get(subscriber.consumer, []))
        await subscriber.commit(event)
        assert await take(subscriber, 1) == ["t2"]
        assert subscriber.stats.handled == 1


async def test_only_what_was_handed_out_can_be_committed(server: RedisServer, client: Redis) -> None:
    await append(client, *things(4))
    async with member(server) as subscriber:
        event = await anext(subscriber)
        await wait_until(lambda: _has_pending(client, 3))
        ahead = (await pending(client))[subscriber.consumer][-1][0]
        wrong = [
            Event(ThingRemoved("t1")),
            Event(ThingRemoved("t1"), _stream="another", _id=event.id, _fields=[]),
            Event(ThingRemoved("t3"), _stream=STREAM, _id=ahead, _fields=[]),
        ]
        for other in wrong:
            with pytest.raises(ValueError, match="handed out last"):
                await subscriber.commit(other)


async def _has_pending(client: Redis, count: int) -> bool:
    return sum(map(len, (await pending(client)).values())) >= count


# --- what others left -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("group")
async def test_what_a_silent_consumer_has_is_taken_over_in_time(server: RedisServer, client: Redis) -> None:
    await append(client, *things(30))
    began = time.monotonic()
    await read_as(client, "dead", 20)
    async with member(server, claim_after=0.5) as subscriber:
        taken = await take(subscriber, 30)
        assert time.monotonic() - began > 0.5
    assert taken == [*things(10, first=21), *things(20)]


@pytest.mark.usefixtures("group")
async def test_what_a_live_consumer_has_is_left_alone(server: RedisServer, client: Redis) -> None:
    await append(client, *things(3))
    ids = await read_as(client, "alive", 2)
    async with member(server, claim_after=0.5) as subscriber:
        looks = await _looks(server)
        while await _looks(server) < looks + 10:
            await client.xclaim(STREAM, GROUP, "alive", 0, ids, justid=True)
        assert len((await pending(client))["alive"]) == 2
        assert await take(subscriber, 1) == ["t3"]


async def _looks(server: RedisServer) -> int:
    stats = (await server.command("INFO", "commandstats")).decode()
    [calls] = [line for line in stats.splitlines() if line.startswith("cmdstat_xautoclaim:")] or ["calls=0,"]
    return int(calls.partition("calls=")[2].partition(",")[0])


async def test_a_slow_handler_keeps_its_event_and_what_was_read_ahead(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(3))
    slow, quick = member(server, claim_after=0.3), member(server, claim_after=0.3)
    async with slow:
        assert await take(slow, 1) == ["t1"]
        await wait_until(lambda: _has_pending(client, 3))  # the other two are read ahead
        async with quick:
            reading = asyncio.ensure_future(anext(quick, None))
            began, looks = time.monotonic(), await _looks(server)
            await wait_until(lambda: _looked(server, looks + 40))  # of both, each every 50 ms
            assert time.monotonic() - began > 0.6
            assert set(await pending(client)) == {slow.consumer}
        assert await reading is None
        assert await take(slow, 3) == things(3)


async def _looked(server: RedisServer, times: int) -> bool:
    return await _looks(server) >= times


@pytest.mark.usefixtures("group")
async def test_much_that_was_left_is_taken_over_all_and_once(server: RedisServer, client: Redis) -> None:
    await append(client, *things(3000))
    await read_as(client, "dead", 3000)
    async with member(server, claim_after=0.3) as subscriber:
        assert sorted(await take(subscriber, 3000)) == sorted(things(3000))


@pytest.mark.usefixtures("group")
async def test_what_was_taken_over_comes_before_what_is_new(server: RedisServer, client: Redis) -> None:
    await append(client, *things(50))
    ids = await read_as(client, "dead", 30)
    await client.xclaim(STREAM, GROUP, "dead", 0, ids, idle=SILENT, justid=True)
    async with member(server) as subscriber:
        assert await take(subscriber, 50) == things(50)


async def _not_pending(client: Redis, *ids: str) -> bool:
    rows = (await pending(client)).values()
    return not set(ids) & {id for found in rows for id, _ in found}


async def test_what_is_trimmed_away_while_it_is_in_hand_is_handled(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    await append(client, *things(4))
    async with member(server, seen, claim_after=0.3) as subscriber:
        events = aiter(subscriber)
        taken = [thing(await anext(events))]
        await wait_until(lambda: _has_pending(client, 3))
        await client.xtrim(STREAM, 0, approximate=False)
        looks = await _looks(server)
        await wait_until(lambda: _looked(server, looks + 10))
        await append(client, "t5")
        taken += [thing(await anext(events)) for _ in range(3)]
    assert taken[:3] == things(3)
    assert seen.of("skipped") == []


# --- what is given up -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("group")
async def test_an_event_that_was_delivered_too_often_is_given_up(server: RedisServer, client: Redis) -> None:
    seen = Recorder()
    ids = await append(client, *things(3))
    await read_as(client, "dead", 3)
    await client.xclaim(STREAM, GROUP, "dead", 0, [ids[1]], retrycount=5, idle=SILENT, justid=True)
    async with member(server, seen, claim_after=0.3) as subscriber:
        assert await take(subscriber, 2) == ["t1", "t3"]
        assert (subscriber.stats.given_up, subscriber.stats.received) == (1, 3)
        await wait_until(lambda: _not_pending(client, ids[1]))
    [details] = seen.of("skipped")
    assert (details.id, details.operation) == (ids[1], "thing.remove")
    assert "delivered 5 times" in details.reason


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("dead_letters", ["dead", "{things}.dead"])
async def test_where_there_are_dead_letters_it_goes_there(
    dead_letters: str, server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    ids = await append(client, *things(3))
    await read_as(client, "dead", 3)
    await client.xclaim(STREAM, GROUP, "dead", 0, ids[:2], retrycount=5, idle=SILENT, justid=True)
    async with member(server, seen, claim_after=0.3, dead_letter=dead_letters) as subscriber:
        assert await take(subscriber, 1) == ["t3"]
        assert (subscriber.stats.dead_lettered, subscriber.stats.given_up) == (2, 0)
        await wait_until(lambda: _not_pending(client, *ids[:2]))
    letters = [letter async for letter in read_dead_letters(server.url, dead_letters)]
    assert [letter.source_id for letter in letters] == ids[:2]
    assert letters[0].event().action == ThingRemoved("t1")
    assert (letters[0].attempts, letters[0].consumer) == (5, GROUP)
    assert letters[0].error_type.endswith("DeliveredTooOften")
    assert isinstance(seen.of("dead_lettered")[0].error, DeliveredTooOften)


async def test_what_fails_for_good_is_dead_lettered_and_acknowledged(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(3))
    handled: list[str] = []

    def handle(event: Event) -> None:
        if thing(event) == "t2":
            raise ZeroDivisionError
        handled.append(thing(event))

    subscriber = member(server, dead_letter="dead")
    async with subscriber, running(subscriber, handle, retry=Retry(attempts=1)):
        await wait_until(lambda: len(handled) == 2)
        await wait_until(lambda: _has_pending_exactly(client, 0))
    assert [fields[b"id"] for _, fields in await client.xrange("dead")] == [b"t2"]
    assert (subscriber.stats.dead_lettered, subscriber.stats.given_up) == (1, 0)


async def _has_pending_exactly(client: Redis, count: int) -> bool:
    return sum(map(len, (await pending(client)).values())) == count


async def test_what_somebody_else_has_acknowledged_meanwhile_is_not_dead_lettered(
    server: RedisServer, client: Redis
) -> None:
    [id] = await append(client, "t1")

    async def handle(event: Event) -> None:
        await client.xack(STREAM, GROUP, id)
        raise ZeroDivisionError

    subscriber = member(server, dead_letter="dead")
    async with subscriber, running(subscriber, handle, retry=Retry(attempts=1)):
        await wait_until(lambda: subscriber.stats.given_up == 1)
    assert await client.xlen("dead") == 0


@pytest.mark.usefixtures("group")
async def test_a_delivery_counts_when_the_event_is_handed_out(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(5))
    await read_as(client, "dead", 5)
    async with member(server, claim_after=0.3) as subscriber:
        assert await take(subscriber, 2) == ["t1", "t2"]
        await wait_until(lambda: _has_all(client, subscriber.consumer, ids[1:]))
        counts = dict((await pending(client))[subscriber.consumer])
        assert counts == {ids[1]: 2} | dict.fromkeys(ids[2:], 1)


async def _has_all(client: Redis, consumer: str, ids: list[str]) -> bool:
    return [id for id, _ in (await pending(client)).get(consumer, [])] == ids


# --- what is given back ---------------------------------------------------------------------------------------------


async def test_who_closes_gives_back_what_is_not_handled_as_if_it_never_had_it(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *things(10))
    async with member(server) as subscriber:
        await take(subscriber, 3)
    given_back = (await pending(client))[GIVEN_BACK]
    assert given_back == [(id, 0) for id in ids[2 : 2 + len(given_back)]]
    assert await consumers(client) == {GIVEN_BACK}


@pytest.mark.usefixtures("group")
async def test_who_closes_takes_back_only_its_own_delivery(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(2))
    await read_as(client, "dead", 2)
    await client.xclaim(STREAM, GROUP, "dead", 0, ids, retrycount=3, justid=True)
    async with member(server, claim_after=0.3) as subscriber:
        await anext(subscriber)
    assert await pending(client) == {GIVEN_BACK: [(ids[0], 3), (ids[1], 3)]}


async def test_what_was_given_back_goes_to_others_at_once(server: RedisServer, client: Redis) -> None:
    leaving, staying = member(server, claim_after=3600), member(server, claim_after=3600)
    async with leaving, staying:
        await append(client, *things(4))
        first = await take(leaving, 1)
        handled: list[str] = []
        async with running(staying, lambda event: handled.append(thing(event))):
            await leaving.aclose()
            await wait_until(lambda: set(handled) | set(first) == set(things(4)))
            await wait_until(lambda: set(handled) == set(things(4)))


# --- consumers that are gone ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("group")
async def test_only_empty_consumers_that_were_silent_for_long_are_removed(
    server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.claims.REMOVE_AFTER", 0.2)
    monkeypatch.setattr("mainflux_events.claims.SWEEP_EVERY", 0.05)
    await append(client, "t1")
    removed_after = 2 * 0.5  # seconds: at the least twice `claim_after`

    began = time.monotonic()
    await read_as(client, "busy", 1)
    await client.execute_command("XGROUP", "CREATECONSUMER", STREAM, GROUP, "empty")
    async with member(server, claim_after=0.5) as subscriber:
        subscriber_reads = asyncio.create_task(take(subscriber, 1))
        await wait_until(lambda: _gone(client, "empty"))
        assert time.monotonic() - began > removed_after
        assert await subscriber_reads == ["t1"], "what the silent one had was taken over first"
        assert subscriber.consumer in await consumers(client)


async def _gone(client: Redis, consumer: str) -> bool:
    return consumer not in await consumers(client)


@pytest.mark.usefixtures("group")
async def test_a_consumer_with_pending_entries_is_never_removed(server: RedisServer, client: Redis) -> None:
    await append(client, "t1")
    await read_as(client, "busy", 1)
    await client.execute_command("XGROUP", "CREATECONSUMER", STREAM, GROUP, "empty")
    await wait_until(lambda: _all_are_idle(client))
    link = Link(server.url, 5.0)
    assert await ask(link, STREAM, 5.0, Member(STREAM, GROUP, "me").sweep(0)) == [b"empty"]
    assert await consumers(client) == {"busy"}


async def _all_are_idle(client: Redis) -> bool:
    """Whether all consumers are silent for a millisecond at least, as what is to be removed has to be."""
    return all(consumer["idle"] > 0 for consumer in await client.xinfo_consumers(STREAM, GROUP))


# --- how much one consumer has --------------------------------------------------------------------------------------


async def test_with_slow_handlers_little_is_read_ahead(server: RedisServer, client: Redis) -> None:
    await append(client, *things(300))

    held: list[int] = []

    async def handle(event: Event) -> None:
        await asyncio.sleep(0.1)
        held.append((await subscriber.pending())[STREAM][subscriber.consumer].entries)

    subscriber = member(server)
    async with subscriber, running(subscriber, handle):
        await wait_until(lambda: len(held) == 20)
    assert 2 <= max(held) <= 20, "of a second's work, and of what one batch more may have"


async def test_with_quick_handlers_much_is_read_at_once(server: RedisServer, client: Redis) -> None:
    await append(client, *things(5000))
    await server.command("CONFIG", "RESETSTAT")
    async with member(server) as subscriber:
        assert await take(subscriber, 5000) == things(5000)
    stats = (await server.command("INFO", "commandstats")).decode()
    [calls] = [line for line in stats.splitlines() if line.startswith("cmdstat_xreadgroup:")]
    assert int(calls.partition("calls=")[2].partition(",")[0]) < 100


# --- entries that went to somebody else -----------------------------------------------------------------------------


async def test_what_somebody_else_has_by_now_is_not_handed_out_and_that_is_told(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    await append(client, *things(7))
    async with member(server, seen, claim_after=1.0) as subscriber:
        events = aiter(subscriber)
        taken = [thing(await anext(events))]
        taken.append(thing(await anext(events)))
        await wait_until(lambda: _has_pending(client, 5))
        held = [id for id, _ in (await pending(client))[subscriber.consumer]]
        await client.xclaim(STREAM, GROUP, "thief", 0, held[-2:], justid=True)
        enough = asyncio.Event()
        keeping = asyncio.create_task(_keep(client, "thief", held[-2:], enough))
        await wait_until(lambda: len(seen.of("lease_lost")) == 2)
        while len(taken) < 5:
            taken.append(thing(await anext(events)))
        enough.set()
        await keeping
        stolen = {details.id for details in seen.of("lease_lost")}
        assert stolen == set(held[-2:])
        assert {details.found for details in seen.of("lease_lost")} == {"thief"}
        assert [id for id, _ in (await pending(client))["thief"]] == held[-2:], "nor taken back"
    assert len(set(taken)) == 5


async def _keep(client: Redis, consumer: str, ids: list[str], enough: asyncio.Event) -> None:
    """Claim these again and again; not until cancelled, for redis-py swallows a cancellation on Python 3.11."""
    while not enough.is_set():
        await client.xclaim(STREAM, GROUP, consumer, 0, ids, justid=True)
        await asyncio.sleep(0.05)


# --- looking --------------------------------------------------------------------------------------------------------


async def test_lag_counts_what_is_not_acknowledged(server: RedisServer, client: Redis) -> None:
    for second in range(1, 11):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{second}"}, id=f"{second}000-0")
    async with member(server) as subscriber:
        async for event in subscriber:
            if thing(event) == "t7":
                await wait_until(lambda: _has_all(client, subscriber.consumer, _seconds(7, 10)))
                assert await subscriber.lag() == {STREAM: Lag(4, 3.0)}
            if thing(event) == "t10":
                await subscriber.commit(event)
                break
        assert await subscriber.lag() == {STREAM: Lag(0, 0.0)}


def _seconds(first: int, last: int) -> list[str]:
    return [f"{second}000-0" for second in range(first, last + 1)]


async def test_lag_of_a_group_before_the_first_entry_is_the_whole_stream(
    server: RedisServer, client: Redis
) -> None:
    async with member(server) as subscriber:
        assert await subscriber.lag() == {STREAM: Lag(0, 0.0)}
    await client.delete(STREAM)
    for second in (1, 3):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{second}"}, id=f"{second}000-0")
    await client.xgroup_create(STREAM, GROUP, "0")
    async with member(server) as subscriber:
        assert await subscriber.lag() == {STREAM: Lag(2, 2.0)}


@pytest.mark.usefixtures("group")
async def test_pending_is_told_by_consumer(server: RedisServer, client: Redis) -> None:
    await append(client, *things(3))
    await read_as(client, "other", 2)
    async with member(server) as subscriber:
        await take(subscriber, 1)
        found = (await subscriber.pending())[STREAM]
        assert {name: each.entries for name, each in found.items()} == {"other": 2, subscriber.consumer: 1}
        assert 0 <= found[subscriber.consumer].idle < 5


async def test_what_cannot_be_asked_is_an_error_of_this_package(server: RedisServer, client: Redis) -> None:
    async with member(server) as subscriber:
        await client.delete(STREAM)
        await client.set(STREAM, "a string")
        with pytest.raises(EventsError, match="things"):
            await subscriber.lag()
        with pytest.raises(EventsError, match="things"):
            await subscriber.pending()
        await client.delete(STREAM)
    with pytest.raises(EventsError, match="closed"):
        await subscriber.lag()
    with pytest.raises(NotStarted):
        await member(server).pending()


# --- what cannot work -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"start": "yesterday"},
        {"commit": "each"},
        {"on_unknown": "raise"},
        {"actions": [int]},
        {"hooks": [print]},
        {"consumer": ""},
        {"consumer": GIVEN_BACK},
        {"claim_after": 0},
        {"claim_after": 400 * 24 * 3600},
        {"max_deliveries": 1},
    ],
)
def test_what_cannot_work_is_a_config_error_that_names_it(settings: dict[str, Any]) -> None:
    [name] = settings
    with pytest.raises(ConfigError, match=name):
        GroupSubscriber("redis://localhost", STREAM, GROUP, **settings)


def test_a_group_or_a_stream_that_cannot_work_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="^group:"):
        GroupSubscriber("redis://localhost", STREAM, "")
    with pytest.raises(EmptyStream):
        GroupSubscriber("redis://localhost", "", GROUP)


async def test_a_stream_of_another_type_is_refused_at_start(server: RedisServer, client: Redis) -> None:
    await client.rpush(STREAM, "5-1")
    with pytest.raises(ConfigError, match="'things' holds a list, not a stream"):
        await member(server).start()
