"""The defects of the Go package that this one lives beside, each shown to be absent.

Their numbers are those of `tests/reference/behaviour.md`. Each test says what that package does, and fails on it.
"""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, read_again, stored, take, thing
from mainflux_events import Backoff, ConfigError, Event, HandlerFailed, Retry, Subscriber
from mainflux_events.cursor import padded
from mainflux_events.testing import RedisServer, redis_server
from support import wait_until


def subscriber(server: RedisServer, name: str = "audit", **settings: object) -> Subscriber:
    return Subscriber(server.url, STREAM, name, **settings)  # type: ignore[arg-type]


async def test_1_what_is_appended_between_two_reads_is_seen(server: RedisServer, client: Redis) -> None:
    """With no cursor stored, the reference asks for ``$`` again at every read.

    ``$`` is the end of the stream at that moment, so an entry that is appended when no read is under way is never
    seen. Here that is all but the first few, since no more than one batch is read ahead.
    """
    async with subscriber(server) as consumer, asyncio.timeout(10):
        await append(client, "t0")
        events = aiter(consumer)
        taken = [thing(await anext(events))]
        for number in range(1, 50):
            await append(client, f"t{number}")
        while len(taken) < 50:
            taken.append(thing(await anext(events)))
    assert taken == [f"t{number}" for number in range(50)]


async def test_1_boot_stop_publish_boot_loses_nothing(server: RedisServer, client: Redis) -> None:
    """The reference stores nothing until the first event, so a second boot begins at the new end of the stream."""
    await append(client, "before")
    async with subscriber(server):
        pass
    await append(client, "t1", "t2")
    async with subscriber(server) as consumer, asyncio.timeout(10):
        assert await take(consumer, 2) == ["t1", "t2"]


async def test_2_an_event_whose_handler_was_cancelled_is_not_counted_as_handled(
    server: RedisServer, client: Redis
) -> None:
    """The reference, stopped in the middle of a handler, stores the cursor past the event that was being handled."""
    [first, _, _] = await append(client, "t1", "t2", "t3")
    await client.set("mainflux:cursor:audit:things", "0-1")
    working = asyncio.Event()
    handled: list[str] = []

    async def handle(event: Event) -> None:
        if thing(event) == "t2":
            working.set()
            await asyncio.Event().wait()
        handled.append(thing(event))

    async with subscriber(server) as consumer:
        task = asyncio.create_task(consumer.run(handle))
        await working.wait()
        task.cancel()
        await asyncio.wait([task])
    assert handled == ["t1"]
    assert await stored(client, "audit") == first
    async with subscriber(server) as consumer:
        assert await take(consumer, 2) == ["t2", "t3"]


async def test_3_the_cursor_follows_each_event(server: RedisServer, client: Redis) -> None:
    """The reference stores the cursor once a batch, so that up to a hundred events come again after a kill.

    `tests/faults/test_handlers.py` kills a process; this looks at what is stored while each handler of a batch works.
    """
    ids = await append(client, *(f"t{number}" for number in range(100)))
    seen: list[str | None] = []

    async def handle(event: Event) -> None:
        seen.append(await stored(client, "audit"))

    async with subscriber(server, start="earliest") as consumer:
        task = asyncio.create_task(consumer.run(handle))
        await wait_until(lambda: consumer.stats.handled == 100)
        task.cancel()
        await asyncio.wait([task])
    assert seen == ["0-0", *ids[:-1]]


async def test_4_an_event_that_no_attempt_handled_is_reported(server: RedisServer, client: Redis) -> None:
    """The reference calls a handler twice within half a second, and then loses the event but for a line in the log.

    Here more attempts can be had, and what is given up is reported with the event itself, and counted.
    """
    await append(client, "t1")
    seen = Recorder()
    async with subscriber(server, start="earliest", hooks=seen) as consumer:
        retry = Retry(attempts=5, initial=0.001)
        task = asyncio.create_task(consumer.run(lambda event: 1 / 0, retry=retry))
        await wait_until(lambda: consumer.stats.given_up)
        task.cancel()
        await asyncio.wait([task])
    final = seen.of("handler_failed")[-1]
    assert (thing(final.event), final.attempt, final.final) == ("t1", 5, True)
    assert isinstance(final.error, ZeroDivisionError)


async def test_4_or_it_stops_before_it(server: RedisServer, client: Redis) -> None:
    """What the reference cannot do at all: keep the event, and tell whoever runs the subscriber."""
    await append(client, "t1")
    async with subscriber(server, start="earliest") as consumer:
        with pytest.raises(HandlerFailed):
            await consumer.run(lambda event: 1 / 0, retry=Retry(attempts=2, initial=0), on_failure="raise")
    async with subscriber(server) as consumer:
        assert await take(consumer, 1) == ["t1"]


async def test_10_redis_down_at_start_does_not_end_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference fails where it cannot reach Redis when it starts."""
    monkeypatch.setattr("mainflux_events.service.BACKOFF", Backoff(initial=0.02, maximum=0.1))
    async with redis_server(aof=True) as server:
        async with Redis.from_url(server.url) as client:
            await append(client, "t1")
        await server.kill()
        async with subscriber(server, start="earliest") as consumer:
            asking = asyncio.create_task(take(consumer, 1))
            await server.restart()
            assert await asking == ["t1"]


async def test_10_the_waits_between_attempts_do_not_stay_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a quiet stream the reference resets its waits only when an event comes, which may be never.

    So after one long outage the next short one costs half a minute. Here an answered read is enough.
    """
    monkeypatch.setattr("mainflux_events.service.BACKOFF", Backoff(initial=0.01, maximum=30.0))
    monkeypatch.setattr("mainflux_events.reader.BLOCK_MS", 20)
    seen = Recorder()
    async with redis_server() as server, subscriber(server, hooks=seen):
        for _ in range(2):
            reconnected = len(seen.of("reconnected"))
            retried = len(seen.of("retrying"))
            await server.kill()
            await wait_until(lambda before=retried: len(seen.of("retrying")) >= before + 6)
            await server.restart()
            await wait_until(lambda before=reconnected: len(seen.of("reconnected")) > before)
            await read_again(server)
        waits = [details.wait for details in seen.of("retrying")[retried:]]
    assert max(waits[:3]) < 0.1, "the second outage begins with short waits again"


async def test_11_two_subscribers_of_one_name_move_the_cursor_forward_only(
    server: RedisServer, client: Redis
) -> None:
    """Of two subscribers of one name, the slower one of the reference sets the cursor back, again and again.

    And neither hears of the other. Here both are told.
    """
    await append(client, *(f"t{number}" for number in range(200)))
    hooks = Recorder(), Recorder()
    history: list[str] = []
    async with (
        subscriber(server, start="earliest", hooks=hooks[0]) as quick,
        subscriber(server, start="earliest", hooks=hooks[1]) as slow,
    ):
        for number in range(200):
            await anext(quick)
            if number >= 100:
                await anext(slow)
            history.append(await stored(client, "audit") or "")
        for _ in range(100):
            await anext(slow)
            history.append(await stored(client, "audit") or "")
        await append(client, "last", "after")
        await anext(slow)
        await anext(slow)
        await anext(quick)
        await anext(quick)
        await wait_until(lambda: all(hook.of("lease_lost") for hook in hooks))
    assert history == sorted(history, key=padded)


@pytest.mark.parametrize("name", ["a:b", ":"])
def test_11_no_two_subscriptions_share_a_cursor_key(name: str) -> None:
    """In the reference ("a:b", "c") and ("a", "b:c") are both stored under ``mainflux:cursor:a:b:c``."""
    with pytest.raises(ConfigError, match="ambiguous"):
        Subscriber("redis://localhost", "c", name)
