"""The server in memory: what makes it one for tests. That it does what a server does: `contract`."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ResponseError

from mainflux_events import (
    ConfigError,
    GroupSubscriber,
    Publisher,
    Subscriber,
    ThingRemoved,
    UnknownAction,
)
from mainflux_events.link import Channel, Disconnected, Link, Reply
from mainflux_events.refusals import Refusal
from mainflux_events.resp import command
from mainflux_events.testing import EventRecorder, HookRecorder, MemoryServer, memory_server, wait_for
from support import PATIENCE

STREAM = "things"


@pytest.fixture
def server() -> MemoryServer:
    with memory_server() as server:
        yield server  # type: ignore[misc]
        assert server.connections() == []


def things(server: MemoryServer, stream: str = STREAM) -> list[str]:
    return [event.action.id for event in server.events(stream)]  # type: ignore[attr-defined]


# --- by name --------------------------------------------------------------------------------------------------------


async def test_servers_of_different_names_know_nothing_of_each_other() -> None:
    with memory_server("one") as one, memory_server("two") as two:
        assert (one.url, two.url) == ("memory://one", "memory://two")
        async with Publisher("memory://one", STREAM) as publisher:
            await publisher.send(ThingRemoved("t1"))
        assert (things(one), things(two)) == (["t1"], [])


async def test_a_server_begins_with_nothing_and_ends_with_all_that_it_had() -> None:
    for _ in range(2):
        with memory_server("again") as server:
            assert things(server) == []
            async with Publisher(server.url, STREAM) as publisher:
                await publisher.send(ThingRemoved("t1"))


def test_a_name_is_given_once_at_a_time(server: MemoryServer) -> None:
    name = server.url.removeprefix("memory://")
    with pytest.raises(ConfigError, match="already"), memory_server(name):
        pass


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:1", "ä"])
def test_a_name_is_one_that_fits_into_a_url(name: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits"), memory_server(name):
        pass


# --- what it is not -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["memory://", "memory://a/1", "memory://u:secret@a", "memory://a?db=1", "memory:a"]
)
def test_a_url_with_anything_but_a_name_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="memory://name, with no user") as refused:
        Publisher(url, STREAM)
    assert "secret" not in str(refused.value)


async def test_where_there_is_no_such_server_starting_says_so() -> None:
    subscriber = Subscriber("memory://nobody", STREAM, "audit")
    with pytest.raises(ConfigError, match="there is no memory://nobody in this process"):
        await subscriber.start()
    await subscriber.aclose()


async def test_a_client_of_fakeredis_is_refused_and_told_of_the_server_in_memory() -> None:
    publisher = Publisher(FakeAsyncRedis(), STREAM)
    with pytest.raises(ConfigError, match="no transport of asyncio.*memory://"):
        await publisher.start()
    await publisher.aclose()


async def test_a_command_that_it_does_not_know_is_refused(server: MemoryServer) -> None:
    with pytest.raises(ResponseError, match="unknown command"):
        await server.command("NOSUCH", "argument")


# --- deterministic --------------------------------------------------------------------------------------------------


def taken() -> tuple[int, set[Path]]:
    """Threads and open files, sockets among them, of this process."""
    return threading.active_count(), set(Path("/proc/self/fd").iterdir())


async def test_it_takes_no_thread_and_no_file(server: MemoryServer) -> None:
    before = taken()
    async with (
        Publisher(server.url, STREAM) as publisher,
        Subscriber(server.url, STREAM, "audit", start="earliest") as subscriber,
    ):
        await publisher.send(ThingRemoved("t1"))
        await anext(subscriber)
        assert taken() == before


async def test_ids_count_on_where_the_clock_stands_or_goes_back() -> None:
    times = iter([5.0, 5.0, 4.0, 4.0, 6.0])
    now = [next(times)]
    with memory_server(clock=lambda: now[0]) as server:
        ids = []
        for time in (5.0, 5.0, 4.0, 6.0):
            now[0] = time
            ids.append(await server.command("XADD", STREAM, "*", "field", "value"))
    assert ids == [b"5000-0", b"5000-1", b"5000-2", b"6000-0"]


async def test_the_time_stands_still_within_a_transaction_and_a_script() -> None:
    now = iter(range(1000))
    with memory_server(clock=lambda: next(now)) as server:
        async with Publisher(server.url, STREAM, idempotent=True) as publisher:
            for id in range(3):
                publisher.publish_nowait(ThingRemoved(str(id)))
            await publisher.flush()
        milliseconds = [event.id.partition("-")[0] for event in server.events(STREAM)]
        assert len(milliseconds) == 3
        assert len(set(milliseconds)) == 1


async def test_who_waits_is_served_in_the_order_of_coming(server: MemoryServer) -> None:
    await server.command("XGROUP", "CREATE", STREAM, "group", "0", "MKSTREAM")
    names = [f"consumer {number}" for number in range(20)]
    channels = [await Link(server.url, 5).open(STREAM, 5) for _ in names]
    served: list[str] = []

    async def read(name: str, place: int) -> None:
        read = ("XREADGROUP", "GROUP", "group", name, "COUNT", 1, "BLOCK", 0, "STREAMS", STREAM, ">")
        await channels[place].exchange(command(*read), 1)
        served.append(name)

    async with asyncio.TaskGroup() as tasks:
        for place, name in enumerate(names):
            tasks.create_task(read(name, place))
        await wait_for(lambda: server.connections().count("XREADGROUP") == len(names))
        for number in range(len(names)):
            await server.command("XADD", STREAM, "*", "field", str(number))
    assert served == names
    for channel in channels:
        await channel.aclose()


async def test_of_competing_consumers_each_has_its_turn(server: MemoryServer) -> None:
    handled: list[str] = []
    async with asyncio.TaskGroup() as tasks, Publisher(server.url, STREAM) as publisher:
        running = []
        for name in "abc":
            subscriber = GroupSubscriber(server.url, STREAM, "group", consumer=name, start="earliest")
            running.append(tasks.create_task(subscriber.run(lambda event, name=name: handled.append(name))))
            await wait_for(lambda: server.connections().count("XREADGROUP") == len(running))
        for number in range(12):
            await publisher.send(ThingRemoved(str(number)))
            await wait_for(lambda number=number: len(handled) == number + 1)
            await wait_for(lambda: server.connections().count("XREADGROUP") == len(running))
        for task in running:
            task.cancel()
    assert handled == ["a", "b", "c"] * 4


# --- connections ----------------------------------------------------------------------------------------------------


async def test_what_was_written_before_a_connection_is_aborted_is_done(server: MemoryServer) -> None:
    channel = await Link(server.url, 5).open("", 5)
    channel.post(command("SET", "key", "value"), 1, lambda replies, ended: None)
    await channel.aclose()
    assert await server.command("GET", "key") == b"value"


async def test_who_is_gone_gets_nothing_that_others_wait_for(server: MemoryServer) -> None:
    await server.command("XGROUP", "CREATE", STREAM, "group", "0", "MKSTREAM")
    read = command("XREADGROUP", "GROUP", "group", "gone", "COUNT", 1, "BLOCK", 0, "STREAMS", STREAM, ">")
    channel = await Link(server.url, 5).open("", 5)
    channel.post(read, 1, lambda replies, ended: None)
    await channel.aclose()
    await server.command("XADD", STREAM, "*", "field", "value")
    assert await server.command("XPENDING", STREAM, "group", "-", "+", 10) == []


async def blocked(server: MemoryServer) -> tuple[Channel, asyncio.Task[list[Reply]]]:
    """A connection that waits for an event of a group, for as long as it takes."""
    await server.command("XGROUP", "CREATE", STREAM, "group", "0", "MKSTREAM")
    read = command("XREADGROUP", "GROUP", "group", "one", "COUNT", 1, "BLOCK", 0, "STREAMS", STREAM, ">")
    channel = await Link(server.url, 5).open("", 5)
    reading = asyncio.create_task(channel.exchange(read, 1))
    await wait_for(lambda: server.connections() == ["XREADGROUP"])
    return channel, reading


async def test_who_waits_is_told_that_the_connection_is_killed(server: MemoryServer) -> None:
    _, reading = await blocked(server)
    await server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(Disconnected):
        await asyncio.wait_for(reading, PATIENCE)


@pytest.mark.parametrize("gone", [["DEL", STREAM], ["XGROUP", "DESTROY", STREAM, "group"]])
async def test_who_waits_is_told_that_the_group_is_gone(gone: list[str], server: MemoryServer) -> None:
    channel, reading = await blocked(server)
    await server.command(*gone)
    [reply] = await asyncio.wait_for(reading, PATIENCE)
    assert isinstance(reply, Refusal)
    assert reply.code == "NOGROUP"
    await channel.aclose()


async def test_a_connection_that_is_killed_is_made_again(server: MemoryServer) -> None:
    seen, handled = HookRecorder(), EventRecorder()
    async with Publisher(server.url, STREAM) as publisher:
        running = asyncio.create_task(
            Subscriber(server.url, STREAM, "audit", start="earliest", hooks=seen).run(handled)
        )
        await publisher.send(ThingRemoved("t1"))
        await handled.wait_for(1)
        await server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await seen.wait_for("reconnected")
        await publisher.send(ThingRemoved("t2"))
        await handled.wait_for(2)
        running.cancel()
        await asyncio.wait([running])
    assert handled.actions == [ThingRemoved("t1"), ThingRemoved("t2")]
    assert publisher.stats.reconnects == 1


async def test_with_the_end_of_the_server_its_connections_end() -> None:
    seen = HookRecorder()
    with memory_server() as server:
        publisher = Publisher(server.url, STREAM, hooks=seen, close_timeout=0.1)
        await publisher.start()
        await publisher.send(ThingRemoved("t1"))
    await publisher.publish(ThingRemoved("t2"))
    [trouble, *_] = await seen.wait_for("retrying")
    assert server.url in trouble.reason
    await publisher.aclose()
    assert publisher.stats.undelivered == 1


async def test_a_group_that_is_deleted_with_its_stream_is_made_again(server: MemoryServer) -> None:
    seen, handled = HookRecorder(), EventRecorder()
    subscriber = GroupSubscriber(server.url, STREAM, "group", start="earliest", hooks=seen)
    running = asyncio.create_task(subscriber.run(handled))
    async with Publisher(server.url, STREAM) as publisher:
        await publisher.send(ThingRemoved("t1"))
        await handled.wait_for(1)
        await server.command("DEL", STREAM)
        await publisher.send(ThingRemoved("t2"))
        await handled.wait_for(2)
    running.cancel()
    await asyncio.wait([running])
    assert handled.actions == [ThingRemoved("t1"), ThingRemoved("t2")]
    assert len(seen.of("reset")) == 1


async def test_several_event_loops_may_use_it_at_once(server: MemoryServer) -> None:
    async def publish() -> None:
        async with Publisher(server.url, STREAM) as publisher:
            for id in range(500):
                await publisher.publish(ThingRemoved(str(id)))

    handled = EventRecorder()
    running = asyncio.create_task(Subscriber(server.url, STREAM, "audit", start="earliest").run(handled))
    await asyncio.gather(*(asyncio.to_thread(asyncio.run, publish()) for _ in range(2)))
    await handled.wait_for(1000)
    running.cancel()
    await asyncio.wait([running])
    assert sorted(things(server)) == sorted(2 * [str(id) for id in range(500)])


# --- looked at ------------------------------------------------------------------------------------------------------


async def test_what_is_in_a_stream_is_seen_as_events(server: MemoryServer) -> None:
    await server.command("XADD", STREAM, "1-1", "operation", "thing.remove", "id", "t1")
    await server.command("XADD", STREAM, "1-2", "operation", "nobody.knows", "field", "value")
    known, unknown = server.events(STREAM)
    assert (known.id, known.stream, known.action) == ("1-1", STREAM, ThingRemoved("t1"))
    assert unknown.action == UnknownAction("nobody.knows", {"field": "value"})
    assert server.events("another") == []
