"""The publisher on a healthy server: its life, its three ways to publish, what it says and what it counts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import anyio
import anyio.to_thread
import pytest
from redis.asyncio import Redis

from histories import STREAM, History, Recorder, numbered, stored_ids
from mainflux_events import (
    Action,
    Backoff,
    BufferFull,
    ConfigError,
    EmptyStream,
    EncodeError,
    Event,
    Hooks,
    Identity,
    NotStarted,
    Publisher,
    PublisherClosed,
    PublisherStats,
    ThingCreated,
    Undelivered,
    acting_as,
    wire,
)
from mainflux_events.hooks import DroppedDetails, ReconnectedDetails, RetryingDetails
from mainflux_events.resp import Append
from mainflux_events.testing import RedisServer
from support import PATIENCE, no_clients_left, wait_until

SHORT = Backoff(initial=0.01, maximum=0.05)


@pytest.fixture
async def publisher(server: RedisServer) -> AsyncIterator[Publisher]:
    """Entered in one task and left in another, as pytest's fixtures are."""
    async with Publisher(server.url, STREAM, backoff=SHORT) as publisher:
        yield publisher


def hung(server: RedisServer, **settings: object) -> Publisher:
    """A publisher of a server that hangs from now on: what it has in flight stays there."""
    return Publisher(
        server.url,
        STREAM,
        backoff=SHORT,
        **({"attempt_timeout": 2.0, "close_timeout": 0.05} | settings),  # type: ignore[arg-type]
    )


async def stuck(publisher: Publisher, server: RedisServer, count: int = 1) -> None:
    """Bring so many events in flight, and leave them there."""
    server.hang()
    for number in range(count):
        publisher.publish_nowait(numbered(number))
    await wait_until(lambda: publisher.stats.in_flight == count)


# --- what it is made of ---


def test_a_stream_needs_a_name() -> None:
    with pytest.raises(EmptyStream):
        Publisher("redis://localhost", "")


@pytest.mark.parametrize("stream", [None, b"things", 5, ["things"], "\ud800"])
def test_the_name_of_a_stream_is_a_text(stream: object) -> None:
    with pytest.raises(ConfigError, match="stream: a non-empty str"):
        Publisher("redis://localhost", stream)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_len", 0),
        ("max_len", -1),
        ("max_len", 2**63),
        ("buffer_size", 0),
        ("buffer_size", -5),
        ("buffer_bytes", -1),
        ("max_event_bytes", 0),
        ("attempt_timeout", 0),
        ("attempt_timeout", float("nan")),
        ("close_timeout", -1),
        ("overflow", "block"),
        ("backoff", 5),
        ("hooks", None),
    ],
)
def test_a_setting_that_cannot_work_is_named(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{setting}: "):
        Publisher("redis://localhost", STREAM, **{setting: value})  # type: ignore[arg-type]


def test_a_stream_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="^stream: "):
        Publisher("redis://localhost", "things\ud800")


def test_the_defaults_are_those_of_the_contract(server: RedisServer) -> None:
    defaults = Publisher.__init__.__kwdefaults__
    assert defaults["max_len"] == 100_000
    assert defaults["buffer_size"] == 10_000
    assert defaults["buffer_bytes"] == 64 * 1024 * 1024
    assert defaults["max_event_bytes"] == 1024 * 1024
    assert defaults["overflow"] == "drop_oldest"
    assert defaults["backoff"] == Backoff(initial=1.0, maximum=30.0)
    assert (defaults["attempt_timeout"], defaults["close_timeout"]) == (5.0, 5.0)


# --- its life ---


def test_it_can_be_made_where_no_loop_runs(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    with pytest.raises(NotStarted, match="the publisher of 'mainflux.things' is not started"):
        publisher.publish_nowait(numbered(1))


async def test_before_the_start_nothing_is_accepted(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    with pytest.raises(NotStarted):
        await publisher.publish(numbered(1))
    with pytest.raises(NotStarted):
        await publisher.send(numbered(1))
    with pytest.raises(NotStarted):
        await publisher.flush()
    with pytest.raises(NotStarted):
        await asyncio.to_thread(publisher.publish_threadsafe, numbered(1))
    assert publisher.stats.accepted == 0


async def test_start_and_close(server: RedisServer, client: Redis) -> None:
    publisher = Publisher(server.url, STREAM)
    await publisher.start()
    await publisher.publish(numbered(1))
    await publisher.aclose()
    assert await stored_ids(client) == ["0000001"]


async def test_after_the_close_nothing_is_accepted(server: RedisServer) -> None:
    async with Publisher(server.url, STREAM) as publisher:
        pass
    for call in (publisher.publish, publisher.send):
        with pytest.raises(PublisherClosed, match="the publisher of 'mainflux.things' is closed"):
            await call(numbered(1))
    with pytest.raises(PublisherClosed):
        publisher.publish_nowait(numbered(1))
    with pytest.raises(PublisherClosed):
        await asyncio.to_thread(publisher.publish_threadsafe, numbered(1))
    with pytest.raises(PublisherClosed):
        await publisher.flush()
    assert publisher.stats.accepted == 0


async def test_it_is_for_single_use(server: RedisServer) -> None:
    async with Publisher(server.url, STREAM) as publisher:
        with pytest.raises(RuntimeError, match="was used before; make another one"):
            await publisher.start()
    with pytest.raises(RuntimeError, match="was used before"):
        await publisher.start()


async def test_closing_twice_or_before_the_start_does_no_harm(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    await publisher.aclose()
    async with Publisher(server.url, STREAM) as publisher:
        await publisher.publish(numbered(1))
        await asyncio.gather(publisher.aclose(), publisher.aclose())
    assert publisher.stats.acknowledged == 1


async def test_closed_at_once_it_leaves_no_connection(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    await publisher.start()
    await publisher.aclose()
    await no_clients_left(server)
    assert len(asyncio.all_tasks()) == 1


async def test_closed_while_it_starts_it_does_not_start(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    starting = asyncio.create_task(publisher.start())
    await asyncio.sleep(0)
    await publisher.aclose()
    with pytest.raises(PublisherClosed):
        await starting
    await no_clients_left(server)


async def test_the_exception_of_the_body_goes_on(server: RedisServer, client: Redis) -> None:
    async def body() -> None:
        async with Publisher(server.url, STREAM) as publisher:
            publisher.publish_nowait(numbered(1))
            raise LookupError("of the body")

    with pytest.raises(LookupError, match="of the body"):
        await body()
    assert await stored_ids(client) == ["0000001"]


async def test_it_may_be_entered_and_left_in_different_tasks(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    await asyncio.create_task(publisher.__aenter__())
    await publisher.send(numbered(1))
    await asyncio.create_task(publisher.__aexit__(None, None, None))
    assert publisher.stats.acknowledged == 1


async def test_in_a_fixture(publisher: Publisher, client: Redis) -> None:
    await publisher.send(numbered(1))
    assert await stored_ids(client) == ["0000001"]


async def test_in_a_task_group_it_ends_with_the_scope_and_delivers(
    server: RedisServer, client: Redis
) -> None:
    publisher = Publisher(server.url, STREAM)
    async with anyio.create_task_group() as group:
        started = await group.start(publisher.run)
        assert started is publisher
        for number in range(100):
            publisher.publish_nowait(numbered(number))
        group.cancel_scope.cancel()
    assert len(await stored_ids(client)) == 100
    with pytest.raises(PublisherClosed):
        publisher.publish_nowait(numbered(1))


async def test_in_a_task_group_it_ends_when_it_is_closed(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    async with anyio.create_task_group() as group:
        await group.start(publisher.run)
        await publisher.aclose()
    assert publisher.stats.accepted == 0


async def test_the_body_of_a_cancelled_scope_is_delivered(server: RedisServer, client: Redis) -> None:
    with anyio.CancelScope() as scope:
        async with Publisher(server.url, STREAM) as publisher:
            publisher.publish_nowait(numbered(1))
            scope.cancel()
            await anyio.sleep_forever()
    assert await stored_ids(client) == ["0000001"]


# --- publishing ---


async def test_all_ways_to_publish_share_one_order(publisher: Publisher, client: Redis) -> None:
    await publisher.publish(numbered(0))
    publisher.publish_nowait(numbered(1))
    await asyncio.to_thread(publisher.publish_threadsafe, numbered(2))
    await publisher.send(numbered(3))
    assert await stored_ids(client) == [numbered(number).id for number in range(4)]


async def test_an_action_or_an_event_around_one(publisher: Publisher, client: Redis) -> None:
    moment = datetime.fromisoformat("2024-05-01T10:00:00+00:00")
    event = Event(numbered(1), Identity("u1", "u@x"), "org", "group", moment)
    await publisher.send(event)
    [(_, fields)] = await client.xrange(STREAM)
    assert wire.decode([part for pair in fields.items() for part in pair]) == event


async def test_send_gives_the_id_of_the_entry(publisher: Publisher, client: Redis) -> None:
    ids = await asyncio.gather(*(publisher.send(numbered(number)) for number in range(50)))
    entries = await client.xrange(STREAM)
    assert ids == [id.decode() for id, _ in entries]


async def test_a_cancelled_send_withdraws_nothing(publisher: Publisher, client: Redis) -> None:
    sending = asyncio.create_task(publisher.send(numbered(1)))
    await asyncio.sleep(0)
    sending.cancel()
    await publisher.flush(PATIENCE)
    assert sending.cancelled()
    assert await stored_ids(client) == ["0000001"]


async def test_what_cannot_be_encoded_is_not_enqueued(publisher: Publisher) -> None:
    bad = ThingCreated(id="t", group_id="g", profile_id="p", metadata={"x": float("nan")})
    naive = Event(numbered(1), occurred_at=datetime(2024, 5, 1))  # noqa: DTZ001
    for event in (bad, naive, None, "text"):
        with pytest.raises(EncodeError):
            await publisher.publish(event)  # type: ignore[arg-type]
        with pytest.raises(EncodeError):
            await asyncio.to_thread(publisher.publish_threadsafe, event)  # type: ignore[arg-type]
    assert publisher.stats.accepted == 0


async def test_an_event_is_encoded_when_it_is_published(publisher: Publisher, client: Redis) -> None:
    metadata = {"n": 1}
    await publisher.publish(ThingCreated(id="t", group_id="g", profile_id="p", metadata=metadata))
    metadata["n"] = 2
    await publisher.flush(PATIENCE)
    [(_, fields)] = await client.xrange(STREAM)
    assert fields[b"metadata"] == b'{"n":1}'


@pytest.mark.parametrize("text", ["\r\n*1\r\n$8\r\nFLUSHALL\r\n", "\x00", "ü€\U0001f600", "a" * 70_000])
async def test_text_arrives_as_it_is(publisher: Publisher, client: Redis, text: str) -> None:
    await publisher.send(ThingCreated(id=text, group_id="g", profile_id="p"))
    [(_, fields)] = await client.xrange(STREAM)
    assert fields[b"id"].decode() == text


async def test_an_event_over_max_event_bytes_is_refused(server: RedisServer) -> None:
    event = numbered(1)
    async with Publisher(server.url, STREAM, max_event_bytes=300, max_len=None) as publisher:
        await publisher.publish(event)
        with pytest.raises(
            EncodeError, match=r"thing\.create: it takes \d+ bytes, above the 300 that max_event"
        ):
            await publisher.publish(ThingCreated(id="t" * 300, group_id="", profile_id=""))
        assert publisher.stats.accepted == 1


async def test_an_event_over_buffer_bytes_is_refused(server: RedisServer) -> None:
    async with Publisher(server.url, STREAM, buffer_bytes=300) as publisher:
        with pytest.raises(EncodeError, match="above the 300 that max_event_bytes and buffer_bytes allow"):
            await publisher.publish(ThingCreated(id="t" * 300, group_id="", profile_id=""))
        assert publisher.stats.accepted == 0


# --- identity ---


async def identities(client: Redis) -> list[bytes]:
    return [fields.get(b"jwt_identity_user_id", b"") for _, fields in await client.xrange(STREAM)]


async def test_an_acting_identity_replaces_the_events_own(publisher: Publisher, client: Redis) -> None:
    own = Event(numbered(1), Identity("own"))
    with acting_as(Identity("other")):
        await publisher.send(own)
    with acting_as(Identity()):
        await publisher.send(own)
    await publisher.send(own)
    assert await identities(client) == [b"other", b"own", b"own"]


async def test_an_acting_identity_follows_tasks_and_threads(publisher: Publisher, client: Redis) -> None:
    with acting_as(Identity("one")):
        await asyncio.create_task(publisher.publish(numbered(1)))
        await anyio.to_thread.run_sync(publisher.publish_threadsafe, numbered(2))
        await asyncio.to_thread(publisher.publish_threadsafe, numbered(3))
    await publisher.flush(PATIENCE)
    assert await identities(client) == [b"one"] * 3


async def test_tasks_do_not_mix_up_identities(publisher: Publisher, client: Redis) -> None:
    async def act(id: str) -> None:
        with acting_as(Identity(id)):
            await asyncio.sleep(0)
            await publisher.publish(numbered(int(id)))

    await asyncio.gather(*(act(str(number)) for number in range(10)))
    await publisher.flush(PATIENCE)
    entries = await client.xrange(STREAM)
    assert all(int(fields[b"id"]) == int(fields[b"jwt_identity_user_id"]) for _, fields in entries)
    assert len(entries) == 10


# --- forwarding ---


async def test_forwarded_fields_are_those_that_came(publisher: Publisher, client: Redis) -> None:
    raw = [b"operation", b"not.known", b"x", b"\xff\r\n", b"x", b"twice", b"", b"empty"]
    with acting_as(Identity("nobody")):
        await publisher.forward(wire.decode(raw, "source", "1-0"))
    await publisher.flush(PATIENCE)
    client.set_response_callback("XRANGE", lambda reply, **_: reply)
    [[_, fields]] = await client.xrange(STREAM)
    assert fields == raw


@pytest.mark.parametrize("event", [Event(numbered(1)), numbered(1), None])
async def test_what_was_not_received_cannot_be_forwarded(publisher: Publisher, event: object) -> None:
    with pytest.raises(EncodeError, match="it was not received, so there is nothing to forward"):
        await publisher.forward(event)  # type: ignore[arg-type]
    assert publisher.stats.accepted == 0


async def test_what_is_too_large_is_not_forwarded(server: RedisServer) -> None:
    async with Publisher(server.url, STREAM, max_event_bytes=300) as publisher:
        with pytest.raises(EncodeError, match="big: it takes .* above the 300"):
            await publisher.forward(wire.decode([b"operation", b"big", b"x", b"x" * 300]))
        assert publisher.stats.accepted == 0


# --- from other threads ---


async def test_from_many_threads(publisher: Publisher, client: Redis) -> None:
    def publish(first: int) -> None:
        for number in range(first, first + 50):
            publisher.publish_threadsafe(numbered(number))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, publish, number * 100) for number in range(4)))
    await publisher.flush(PATIENCE)
    ids = [int(id) for id in await stored_ids(client)]
    assert len(ids) == 200
    for number in range(4):
        own = [id for id in ids if id // 100 == number]
        assert own == sorted(own)


async def test_on_the_loop_itself_it_would_wait_for_ever(publisher: Publisher) -> None:
    with pytest.raises(RuntimeError, match="was called on the event loop: use publish or publish_nowait"):
        publisher.publish_threadsafe(numbered(1))
    assert publisher.stats.accepted == 0


async def test_the_other_ways_are_not_for_other_threads(publisher: Publisher) -> None:
    with pytest.raises(RuntimeError, match="use publish_threadsafe from other threads"):
        await asyncio.to_thread(publisher.publish_nowait, numbered(1))
    assert publisher.stats.accepted == 0


def test_when_the_loop_is_closed_a_thread_is_told(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)

    async def live() -> None:
        async with publisher:
            pass

    asyncio.run(live())
    with pytest.raises(PublisherClosed, match="has lost its event loop"):
        publisher.publish_threadsafe(numbered(1))


def test_a_thread_that_waits_while_the_loop_ends_is_told(fresh_server: RedisServer) -> None:
    publisher = hung(fresh_server, overflow="wait", buffer_size=1)
    outcome: list[BaseException] = []

    def wait_for_room() -> None:
        try:
            publisher.publish_threadsafe(numbered(9))
        except Exception as error:
            outcome.append(error)

    async def live() -> threading.Thread:
        await publisher.start()
        await stuck(publisher, fresh_server)
        publisher.publish_nowait(numbered(8))
        thread = threading.Thread(target=wait_for_room)
        thread.start()
        await wait_until(lambda: publisher._lanes[0].buffer._waiting)
        return thread

    thread = asyncio.run(live())
    thread.join(5.0)
    assert not thread.is_alive()
    assert [type(error) for error in outcome] == [PublisherClosed]


async def test_a_thread_waits_for_room_as_long_as_the_loop_is_there(
    fresh_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.tasks.LOOK_EVERY", 0.01)
    looks = 0
    is_closed = asyncio.get_running_loop().is_closed

    def counted() -> bool:
        nonlocal looks
        looks += 1
        return is_closed()

    monkeypatch.setattr(asyncio.get_running_loop(), "is_closed", counted)
    publisher = hung(fresh_server, overflow="wait", buffer_size=1, attempt_timeout=5.0, close_timeout=2.0)
    async with publisher:
        await stuck(publisher, fresh_server)
        publisher.publish_nowait(numbered(8))
        waiting = asyncio.create_task(asyncio.to_thread(publisher.publish_threadsafe, numbered(9)))
        await wait_until(lambda: publisher._lanes[0].buffer._waiting)
        seen = looks
        await wait_until(lambda: looks > seen + 3)
        assert not waiting.done()
        fresh_server.resume()
        await asyncio.wait_for(waiting, PATIENCE)
    assert publisher.stats.acknowledged == 3


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_thread_that_waits_for_a_loop_that_is_closed_without_a_turn_is_told(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.tasks.LOOK_EVERY", 0.01)
    publisher = Publisher(server.url, STREAM)
    outcome: list[str] = []

    def publish() -> None:
        try:
            publisher.publish_threadsafe(numbered(1))
        except PublisherClosed as error:
            outcome.append(error.reason)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(publisher.start())
    loop.run_until_complete(publisher.aclose())
    thread = threading.Thread(target=publish, daemon=True)
    scheduled = threading.Event()
    call_soon_threadsafe = loop.call_soon_threadsafe

    def schedule(*arguments: Any, **options: Any) -> Any:
        handle = call_soon_threadsafe(*arguments, **options)
        scheduled.set()
        return handle

    monkeypatch.setattr(loop, "call_soon_threadsafe", schedule)
    thread.start()
    assert scheduled.wait(5.0)
    loop.close()
    thread.join(5.0)
    assert outcome == ["has lost its event loop"]


# --- flush ---


async def test_flush_waits_for_what_was_accepted(publisher: Publisher, client: Redis) -> None:
    for number in range(1000):
        publisher.publish_nowait(numbered(number))
    await publisher.flush()
    assert await client.xlen(STREAM) == 1000


async def test_flush_with_nothing_to_wait_for(publisher: Publisher) -> None:
    await publisher.flush(0)
    await publisher.flush(timeout=None)
    assert publisher.stats.accepted == 0


async def test_flush_past_its_time(fresh_server: RedisServer) -> None:
    async with hung(fresh_server, close_timeout=2.0) as publisher:
        await stuck(publisher, fresh_server)
        with pytest.raises(TimeoutError):
            await publisher.flush(0.02)
        fresh_server.resume()
        await publisher.flush(PATIENCE)
        assert publisher.stats.acknowledged == 1


async def test_flush_says_how_many_were_dropped(fresh_server: RedisServer) -> None:
    async with hung(fresh_server, buffer_size=3, close_timeout=2.0) as publisher:
        await stuck(publisher, fresh_server)
        for number in range(10):
            publisher.publish_nowait(numbered(number))
        fresh_server.resume()
        with pytest.raises(Undelivered, match="7 events were not delivered: the buffer was full"):
            await publisher.flush(PATIENCE)
        await publisher.flush(PATIENCE)


async def test_flush_while_it_closes_says_what_was_given_up(fresh_server: RedisServer) -> None:
    async with hung(fresh_server) as publisher:
        await stuck(publisher, fresh_server, 2)
        flushing = asyncio.create_task(publisher.flush())
        await asyncio.sleep(0)
    with pytest.raises(Undelivered, match="2 events were not delivered: the publisher closed"):
        await flushing


# --- overflow ---


PACKED = len(wire.encode(numbered(1), Append(STREAM, 100_000)))


@pytest.mark.parametrize(
    "bound", [{"buffer_size": 3}, {"buffer_bytes": 7 * PACKED // 2}], ids=["events", "bytes"]
)
@pytest.mark.parametrize(
    ("overflow", "dropped"),
    [("drop_oldest", ["0000010", "0000011"]), ("drop_newest", ["0000013", "0000014"])],
)
async def test_what_has_no_room_is_dropped(
    fresh_server: RedisServer, overflow: str, dropped: list[str], bound: dict[str, int]
) -> None:
    recorder = Recorder()
    settings = {"overflow": overflow, "hooks": recorder, "close_timeout": 2.0, **bound}
    async with hung(fresh_server, **settings) as publisher:
        await stuck(publisher, fresh_server, 2)
        for number in range(10, 15):
            await publisher.publish(numbered(number))
        assert recorder.dropped_ids() == dropped
        assert publisher.stats == PublisherStats(
            accepted=7,
            acknowledged=0,
            dropped=2,
            undelivered=0,
            buffered=3,
            in_flight=2,
            retries=0,
            reconnects=0,
        )
        fresh_server.resume()
    async with Redis.from_url(fresh_server.url) as client:
        kept = [numbered(number).id for number in (0, 1, *range(10, 15))]
        assert await stored_ids(client) == [id for id in kept if id not in dropped]


async def test_send_is_told_of_its_drop(fresh_server: RedisServer) -> None:
    async with hung(fresh_server, buffer_size=1) as publisher:
        await stuck(publisher, fresh_server)
        sending = asyncio.create_task(publisher.send(numbered(1)))
        await asyncio.sleep(0)
        publisher.publish_nowait(numbered(2))
        with pytest.raises(Undelivered, match="1 event was not delivered: the buffer was full"):
            await sending
    async with hung(fresh_server, buffer_size=1, overflow="drop_newest", attempt_timeout=0.05) as publisher:
        publisher.publish_nowait(numbered(1))
        with pytest.raises(Undelivered, match="1 event was not delivered: the buffer was full"):
            await publisher.send(numbered(2))


async def test_what_has_no_room_can_be_refused(fresh_server: RedisServer) -> None:
    async with hung(fresh_server, buffer_size=2, overflow="raise") as publisher:
        await stuck(publisher, fresh_server)
        for number in (1, 2):
            await publisher.publish(numbered(number))
        for _ in range(2):
            with pytest.raises(BufferFull, match="the buffer is full with 2 events of"):
                await publisher.publish(numbered(3))
        with pytest.raises(BufferFull):
            await publisher.send(numbered(3))
        with pytest.raises(BufferFull):
            await asyncio.to_thread(publisher.publish_threadsafe, numbered(3))
        assert (publisher.stats.accepted, publisher.stats.dropped) == (3, 0)


async def test_what_has_no_room_can_wait(fresh_server: RedisServer) -> None:
    async with hung(fresh_server, buffer_size=2, overflow="wait", close_timeout=2.0) as publisher:
        await stuck(publisher, fresh_server)
        for number in (1, 2):
            await publisher.publish(numbered(number))
        with pytest.raises(BufferFull):
            publisher.publish_nowait(numbered(3))
        waiting = asyncio.create_task(publisher.publish(numbered(3)))
        sending = asyncio.create_task(publisher.send(numbered(4)))
        threaded = asyncio.create_task(asyncio.to_thread(publisher.publish_threadsafe, numbered(5)))
        await wait_until(lambda: len(publisher._lanes[0].buffer._waiting) == 3)
        assert publisher.stats.accepted == 3
        fresh_server.resume()
        await asyncio.gather(waiting, sending, threaded)
    async with Redis.from_url(fresh_server.url) as client:
        assert await stored_ids(client) == [numbered(number).id for number in range(6)]


async def test_who_waits_for_room_is_told_of_the_close(fresh_server: RedisServer) -> None:
    async with hung(fresh_server, buffer_size=1, overflow="wait") as publisher:
        await stuck(publisher, fresh_server)
        await publisher.publish(numbered(1))
        waiting = asyncio.create_task(publisher.publish(numbered(2)))
        await asyncio.sleep(0)
    with pytest.raises(PublisherClosed):
        await waiting
    assert (publisher.stats.accepted, publisher.stats.undelivered) == (2, 2)


# --- hooks ---


async def test_a_hook_that_raises_harms_nothing(
    server: RedisServer, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Hooks):
        def dropped(self, details: DroppedDetails) -> None:
            raise RuntimeError("of the hook")

        def reconnected(self, details: ReconnectedDetails) -> None:
            raise asyncio.CancelledError

        def retrying(self, details: RetryingDetails) -> None:
            raise RuntimeError("of the hook")

    async with Publisher(server.url, STREAM, hooks=[Faulty()], buffer_size=1, backoff=SHORT) as publisher:
        for number in range(3):
            publisher.publish_nowait(numbered(number))
        await client.client_kill_filter(_type="normal", skipme=True)
        await publisher.send(numbered(3))
    assert (publisher.stats.dropped, publisher.stats.acknowledged, publisher.stats.reconnects) == (2, 2, 1)
    assert "hook_failed: Faulty.dropped raised" in caplog.text
    assert "hook_failed: Faulty.reconnected raised" in caplog.text


async def test_a_hook_may_publish(server: RedisServer, client: Redis) -> None:
    class Again(Hooks):
        def dropped(self, details: DroppedDetails) -> None:
            if details.operation != "drop.noted":
                publisher.publish_nowait(DropNoted())

    async with Publisher(server.url, STREAM, hooks=Again(), buffer_size=2) as publisher:
        for number in range(3):
            publisher.publish_nowait(numbered(number))
    stats = publisher.stats
    assert stats.accepted > 3
    assert stats.accepted == stats.acknowledged + stats.dropped
    assert await client.xlen(STREAM) == stats.acknowledged == 2


class DropNoted(Action, tag="drop.noted"):
    pass


# --- at full rate ---


async def test_a_loop_of_awaited_publishes_drops_nothing(server: RedisServer, client: Redis) -> None:
    async with Publisher(server.url, STREAM, max_len=None) as publisher:
        for number in range(100_000):
            await publisher.publish(numbered(number))
    assert publisher.stats == PublisherStats(
        accepted=100_000,
        acknowledged=100_000,
        dropped=0,
        undelivered=0,
        buffered=0,
        in_flight=0,
        retries=0,
        reconnects=0,
    )
    assert await stored_ids(client) == [numbered(number).id for number in range(100_000)]


async def test_the_stream_is_trimmed_to_about_max_len(server: RedisServer, client: Redis) -> None:
    async with Publisher(server.url, STREAM, max_len=1000) as publisher:
        for number in range(5000):
            await publisher.publish(numbered(number))
    ids = await stored_ids(client)
    assert 1000 <= len(ids) <= 1500
    assert ids[-1] == numbered(4999).id


async def test_other_tasks_run_while_a_loop_publishes(publisher: Publisher) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    for number in range(5000):
        await publisher.publish(numbered(number))
    running.cancel()
    assert turns > 30


async def test_a_mixed_load_adds_up(server: RedisServer, client: Redis) -> None:
    history = History()
    async with Publisher(
        server.url, STREAM, buffer_size=50, hooks=history.recorder, max_len=None
    ) as publisher:
        for _ in range(40):
            history.publish(publisher, 37)
            await asyncio.sleep(0)
    assert publisher.stats.dropped > 0
    history.check(publisher, await stored_ids(client))


async def test_the_log_is_quiet_when_all_is_well(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "mainflux_events"):
        await publisher.send(numbered(1))
    assert caplog.records == []
