"""What a consumer of a group does when its server is down, hangs, dies, refuses or is changed under it."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import anyio
import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from clusters import cluster
from consuming import STREAM, Recorder, append, take, thing, things
from grouped import GROUP, member, pending, read_as
from mainflux_events import AccessRefused, Event, EventsError, GroupSubscriber
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, background_tasks, wait_until, within

CLOSE_BOUND = 2.5  # seconds, as the contract has it


@pytest.fixture(autouse=True)
def _quick(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.join.BLOCK_MS", 50)


async def has_no_pending(client: Redis) -> bool:
    return await pending(client) == {}


# --- not there at the start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["new", "earliest"])
async def test_a_server_that_is_down_at_start_is_waited_for(
    start: str, fresh_server: RedisServer, direct: Redis
) -> None:
    await fresh_server.kill()
    seen = Recorder()
    async with member(fresh_server, seen, start=start) as subscriber:
        asking = asyncio.create_task(take(subscriber, 2))
        await wait_until(lambda: len(seen.of("retrying")) > 3)
        with pytest.raises(EventsError):
            await subscriber.lag()
        await fresh_server.restart()
        await wait_until(lambda: _has_group(direct))
        await append(direct, "t1", "t2")
        assert await asking == ["t1", "t2"]


async def _has_group(client: Redis) -> bool:
    return bool(await client.exists(STREAM))


async def test_a_server_that_hangs_at_start_is_waited_for_in_the_background(
    fresh_server: RedisServer, direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.2)
    await append(direct, "t1")
    fresh_server.hang()
    async with member(fresh_server) as subscriber:
        fresh_server.resume()
        assert await take(subscriber, 1) == ["t1"]


async def test_a_server_without_memory_for_the_group_is_waited_for(
    fresh_server: RedisServer, direct: Redis
) -> None:
    seen = Recorder()
    await append(direct, "t1")
    await direct.config_set("maxmemory", "1")
    async with member(fresh_server, seen) as subscriber:
        await wait_until(lambda: seen.of("retrying"))
        assert "OOM" in seen.of("retrying")[0].reason
        await direct.config_set("maxmemory", "0")
        assert await take(subscriber, 1) == ["t1"]


async def test_a_wrong_password_is_told_at_start_without_any_secret(caplog: pytest.LogCaptureFixture) -> None:
    async with redis_server(password="the right one") as server:
        url = server.url.replace("the%20right%20one", "sesame")
        with pytest.raises(AccessRefused) as caught:
            await GroupSubscriber(url, STREAM, GROUP).start()
    assert "sesame" not in f"{caught.value!r} {caught.value} {caplog.text}"


# --- lost on the way ------------------------------------------------------------------------------------------------


async def test_killed_and_restarted_without_its_data_the_group_is_made_again_at_once(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await append(direct, "t1")
    seen = Recorder()
    async with member(fresh_server, seen, start="earliest") as subscriber:
        events = aiter(subscriber)
        await subscriber.commit(await anext(events))
        await fresh_server.kill()
        await fresh_server.restart()
        await append(direct, "t2")
        assert thing(await asyncio.wait_for(anext(events), PATIENCE)) == "t2"
    # Other troubles pass by themselves, and this one had better not be waited for.
    assert [each.reason for each in seen.of("retrying") if "NOGROUP" in each.reason] == []
    assert len(seen.of("reset")) == 1


async def test_killed_and_restarted_on_its_data_everything_is_handled_and_little_twice() -> None:
    handled: list[str] = []
    async with (
        redis_server(aof=True) as server,
        Redis.from_url(server.url, retry=Retry(NoBackoff(), 1)) as client,
    ):
        await append(client, *things(900))

        async def handle(event: Event) -> None:
            handled.append(thing(event))
            await asyncio.sleep(0)

        async with member(server, claim_after=1.0) as subscriber:
            task = asyncio.create_task(subscriber.run(handle))
            for most in (300, 600):
                await wait_until(lambda most=most: len(handled) > most)
                await server.kill()
                await server.restart()
            await wait_until(lambda: len(set(handled)) == 900)
            await wait_until(lambda: has_no_pending(client))
            task.cancel()
            await asyncio.wait([task])
    assert sorted(handled) == sorted(things(900))


async def test_killed_connections_are_made_again_at_once(fresh_server: RedisServer, direct: Redis) -> None:
    seen = Recorder()
    async with member(fresh_server, seen) as subscriber:
        await append(direct, "t")
        await subscriber.commit(await anext(subscriber))  # from here on they have worked
        for number in range(5):
            await direct.client_kill_filter(_type="normal", skipme=True)
            await append(direct, f"t{number}")
            event = await anext(subscriber)
            assert thing(event) == f"t{number}"
            await subscriber.commit(event)
        await wait_until(lambda: has_no_pending(direct))
    assert {details.wait for details in seen.of("retrying")} == {0.0}
    assert {name for name, _ in seen.seen} == {"retrying", "reconnected"}


async def test_what_was_delivered_over_a_connection_that_broke_comes_at_once_and_is_not_counted(
    fresh_server: RedisServer, direct: Redis
) -> None:
    seen = Recorder()
    async with member(fresh_server, seen, claim_after=3600) as subscriber:
        await append(direct, "t0")
        await subscriber.commit(await anext(subscriber))
        # As if the answer had been lost on its way.
        ids = await append(direct, *things(3))
        fresh_server.hang()
        await _deliver(fresh_server, subscriber.consumer, direct)
        assert await take(subscriber, 3) == things(3)
        counts = dict((await pending(direct))[subscriber.consumer])
        assert counts[ids[2]] == 1, "in hand for the first time"


async def _deliver(server: RedisServer, consumer: str, client: Redis) -> None:
    server.resume()
    with contextlib.suppress(ValueError):  # nothing new: then the consumer itself was quicker
        await read_as(client, consumer, 3)
    await client.client_kill_filter(_type="normal", skipme=True)


async def test_acknowledgements_that_were_not_answered_are_sent_again(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await append(direct, *things(5))
    async with member(fresh_server) as subscriber:
        events = aiter(subscriber)
        await anext(events)
        await wait_until(lambda: _has(direct, 3))  # two of them are read ahead
        fresh_server.hang()
        taken = [thing(await anext(events))]  # which acknowledges the first
        keeper = subscriber._keepers[0]
        assert keeper._channel is not None
        keeper._channel.abort("the test wants it so")
        fresh_server.resume()
        taken += [thing(await anext(events)) for _ in range(2)]
        await subscriber.commit(await anext(events))
        assert taken == things(3, first=2)
        await wait_until(lambda: has_no_pending(direct))


async def test_a_server_that_hangs_is_left_and_found_again(
    fresh_server: RedisServer, direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.2)
    seen = Recorder()
    async with member(fresh_server, seen) as subscriber:
        await append(direct, *things(2))
        events = aiter(subscriber)
        await anext(events)
        fresh_server.hang()
        await wait_until(lambda: seen.of("retrying"))
        assert any("no reply in" in details.reason for details in seen.of("retrying"))
        fresh_server.resume()
        await append(direct, "t3")
        assert sorted([thing(await anext(events)) for _ in range(2)]) == ["t2", "t3"]


async def test_a_password_that_changes_is_told_slowly_retried_and_got_over(
    fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Recorder()
    async with member(fresh_server, seen) as subscriber:
        await direct.config_set("requirepass", "sesame")
        await direct.client_kill_filter(_type="normal", skipme=True)
        await wait_until(lambda: len(seen.of("retrying")) > 3)
        assert "Authentication required" in seen.of("retrying")[-1].reason
        await direct.config_set("requirepass", "")
        await append(direct, "t1")
        assert await take(subscriber, 1) == ["t1"]
    assert "sesame" not in caplog.text


async def test_a_stream_that_becomes_another_type_is_told_and_got_over(
    fresh_server: RedisServer, direct: Redis
) -> None:
    seen = Recorder()
    async with member(fresh_server, seen) as subscriber:
        await direct.set(STREAM, "a string")
        await wait_until(lambda: seen.of("retrying"))
        await direct.delete(STREAM)
        await append(direct, "t1")
        assert await take(subscriber, 1) == ["t1"]
    assert any("a string, not a stream" in details.reason for details in seen.of("retrying")) or any(
        "WRONGTYPE" in details.reason for details in seen.of("retrying")
    )


async def test_out_of_memory_handlers_go_on_and_are_acknowledged(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await append(direct, *things(20))
    async with member(fresh_server) as subscriber:
        await take(subscriber, 1)
        await direct.config_set("maxmemory", "1")
        async for event in subscriber:
            if thing(event) == "t20":
                await subscriber.commit(event)
                break
        assert await pending(direct) == {}


async def test_a_server_that_is_made_a_replica_takes_no_acknowledgement_until_it_is_a_master_again(
    fresh_server: RedisServer, direct: Redis
) -> None:
    seen = Recorder()
    ids = await append(direct, *things(3))
    async with member(fresh_server, seen) as subscriber:
        events = aiter(subscriber)
        await anext(events)
        await wait_until(lambda: _has(direct, 3))
        await direct.execute_command("REPLICAOF", "127.0.0.1", "1")
        await anext(events)
        await wait_until(lambda: seen.of("cursor_not_saved"))
        details = seen.of("cursor_not_saved")[0]
        assert (details.key, details.id) == (GROUP, ids[0])
        assert "READONLY" in details.reason
        await direct.execute_command("REPLICAOF", "NO", "ONE")
        await wait_until(lambda: _has(direct, 2))


async def _has(client: Redis, count: int) -> bool:
    return sum(map(len, (await pending(client)).values())) == count


async def test_where_nothing_can_be_acknowledged_reading_ends_before_memory_does(
    fresh_server: RedisServer, direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.acks.MOST_UNACKNOWLEDGED", 50)
    await append(direct, *things(2000))
    handled: list[str] = []
    async with member(fresh_server) as subscriber:
        await direct.execute_command("ACL", "SETUSER", "default", "-xack")
        running = asyncio.create_task(subscriber.run(lambda event: handled.append(thing(event))))
        await wait_until(lambda: len(handled) > 50)
        # What was read by then is handled, and no more.
        await wait_until(lambda: _all_handled(direct, handled))
        assert len(handled) < 1000
        await direct.execute_command("ACL", "SETUSER", "default", "+xack")
        await wait_until(lambda: len(handled) == 2000)
        await wait_until(lambda: has_no_pending(direct))
        running.cancel()
        await asyncio.wait([running])


async def _all_handled(client: Redis, handled: list[str]) -> bool:
    return sum(map(len, (await pending(client)).values())) == len(handled)


# --- the group, and the stream with it, gone ------------------------------------------------------------------------


async def test_a_group_that_is_destroyed_goes_on_behind_what_was_delivered(
    fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Recorder()
    ids = await append(direct, *things(3))
    async with member(fresh_server, seen) as subscriber:
        events = aiter(subscriber)
        taken = [thing(await anext(events)) for _ in range(3)]
        await direct.xgroup_destroy(STREAM, GROUP)
        await append(direct, *things(2, first=4))
        taken += [thing(await anext(events)) for _ in range(2)]
        assert taken == things(5)
    assert [(reset.after, reset.resume) for reset in seen.of("reset")] == [(ids[-1], ids[-1])]
    assert "group_made_again" in caplog.text


async def test_a_stream_whose_ids_begin_anew_is_read_from_its_beginning(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await append(direct, "t1")
    async with member(fresh_server, start="new") as subscriber:
        await append(direct, "t2")
        events = aiter(subscriber)
        assert thing(await anext(events)) == "t2"
        async with direct.pipeline(transaction=True) as pipeline:
            pipeline.delete(STREAM)
            pipeline.xadd(STREAM, {"operation": "thing.remove", "id": "t3"}, id="1-1")
            await pipeline.execute()
        assert thing(await anext(events)) == "t3"


async def test_a_server_that_lost_its_data_is_begun_anew_on(fresh_server: RedisServer, direct: Redis) -> None:
    await append(direct, *things(2))
    async with member(fresh_server) as subscriber:
        events = aiter(subscriber)
        assert [thing(await anext(events)) for _ in range(2)] == things(2)
        await fresh_server.kill()
        await fresh_server.restart()
        await append(direct, "t3")
        assert thing(await anext(events)) == "t3"


# --- on a cluster ---------------------------------------------------------------------------------------------------


async def _nothing_left(subscriber: GroupSubscriber, streams: list[str]) -> bool:
    return {stream: lag.entries for stream, lag in (await subscriber.lag()).items()} == dict.fromkeys(
        streams, 0
    )


async def test_on_a_cluster_each_stream_has_its_own_server() -> None:
    streams = ["first", "second", "third"]
    async with cluster() as servers:
        async with RedisCluster.from_url(servers[0].url) as client:
            for stream in streams:
                for number in range(50):
                    await client.xadd(stream, {"operation": "thing.remove", "id": f"{stream}{number}"})
            async with GroupSubscriber(client, streams, GROUP, start="earliest") as subscriber:
                taken: dict[str, list[str]] = {stream: [] for stream in streams}
                async for event in subscriber:
                    taken[event.stream].append(thing(event))
                    if sum(map(len, taken.values())) == 150:
                        await subscriber.commit(event)
                        break
                # Only of the last one's stream is it certain that all is acknowledged.
                await wait_until(lambda: _nothing_left(subscriber, streams))
        nodes = {len(await server.command("KEYS", "*")) for server in servers}
    assert taken == {stream: [f"{stream}{number}" for number in range(50)] for stream in streams}
    assert nodes != {3, 0}, "they are on several"


# --- closing --------------------------------------------------------------------------------------------------------


async def closed_in_time(subscriber: GroupSubscriber) -> None:
    with within(CLOSE_BOUND):
        await subscriber.aclose()
    assert background_tasks() == []


@pytest.mark.parametrize("asking", [False, True])
async def test_closing_while_idle(asking: bool, fresh_server: RedisServer) -> None:
    subscriber = member(fresh_server)
    await subscriber.start()
    task = asyncio.ensure_future(anext(subscriber, None)) if asking else None
    await asyncio.sleep(0)
    await closed_in_time(subscriber)
    assert task is None or await task is None


@pytest.mark.parametrize("how", ["hung", "killed"])
async def test_closing_while_the_server_takes_no_acknowledgement(
    how: str, fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await append(direct, *things(2))
    subscriber = member(fresh_server)
    await subscriber.start()
    events = aiter(subscriber)
    await anext(events)
    await wait_until(lambda: _has(direct, 2))
    if how == "hung":
        fresh_server.hang()
    else:
        await fresh_server.kill()
    await anext(events)  # which acknowledges the first one
    with caplog.at_level(logging.WARNING):
        await closed_in_time(subscriber)
    assert "not_acknowledged: 1 entries of 'things', on closing" in caplog.text
    assert "not_given_back" in caplog.text
    if how == "hung":
        fresh_server.resume()


async def test_closing_while_it_reconnects(fresh_server: RedisServer) -> None:
    seen = Recorder()
    await fresh_server.kill()
    subscriber = member(fresh_server, seen)
    await subscriber.start()
    await wait_until(lambda: len(seen.of("retrying")) > 1)
    await closed_in_time(subscriber)


async def test_closing_when_the_group_is_gone(fresh_server: RedisServer, direct: Redis) -> None:
    await append(direct, *things(2))
    subscriber = member(fresh_server)
    await subscriber.start()
    await take(subscriber, 1)
    await direct.delete(STREAM)
    await closed_in_time(subscriber)


async def test_a_run_whose_scope_is_cancelled_while_the_server_hangs_ends_in_time(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await append(direct, *things(100))
    working = asyncio.Event()

    async def handle(event: Event) -> None:
        if thing(event) == "t50":
            working.set()
        await asyncio.sleep(0)

    async with contextlib.AsyncExitStack() as stack, anyio.create_task_group() as group:
        await group.start(member(fresh_server).run, handle)
        await working.wait()
        fresh_server.hang()
        stack.enter_context(within(CLOSE_BOUND))
        group.cancel_scope.cancel()
    assert background_tasks() == []
    fresh_server.resume()


@pytest.mark.parametrize("turns", range(12))
async def test_a_close_that_is_cancelled_leaves_nothing_behind(
    turns: int, server: RedisServer, client: Redis
) -> None:
    await append(client, *things(3))
    subscriber = member(server)
    await subscriber.start()
    await take(subscriber, 1)
    task = asyncio.create_task(subscriber.aclose())
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await wait_until(lambda: not background_tasks())


@pytest.mark.parametrize("cancel", ["task", "scope", "close"])
async def test_cancelled_or_closed_at_any_turn_of_start_nothing_is_left(
    cancel: str, server: RedisServer
) -> None:
    for turns in range(40):
        subscriber = member(server)
        scope = anyio.CancelScope()

        async def start(subscriber: GroupSubscriber = subscriber, scope: anyio.CancelScope = scope) -> None:
            with scope, contextlib.suppress(EventsError, RuntimeError):
                await subscriber.start()

        task = asyncio.create_task(start())
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        if cancel == "close":
            await subscriber.aclose()
        else:
            (scope if cancel == "scope" else task).cancel()
        await asyncio.wait([task])
        await subscriber.aclose()
        assert background_tasks() == [], f"at turn {turns}"
