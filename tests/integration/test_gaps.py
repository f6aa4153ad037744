"""Entries that were removed before they were read, and streams that are not the same any more.

Before Redis 7.0 the server cannot tell how many entries are missing, nor whether there are any at all where the entry
before them is gone too; ``counted`` says what is expected of which server.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from clusters import cluster
from consuming import STREAM, Recorder, append, calls, read_again, span, stored, take, take_all, thing
from mainflux_events import (
    AccessRefused,
    Commit,
    ConfigError,
    StreamGap,
    StreamReset,
    Subscriber,
)
from mainflux_events.gaps import number as parsed
from mainflux_events.hooks import GapDetails, ResetDetails
from mainflux_events.sizing import FIRST_ENTRIES
from mainflux_events.testing import RedisServer, redis_server
from support import wait_until

KEY = "mainflux:cursor:audit:things"


pytestmark = pytest.mark.usefixtures("quick")


def subscriber(server: RedisServer, **settings: Any) -> Subscriber:
    return Subscriber(server.url, STREAM, "audit", **({"start": "earliest"} | settings))


def counts(server: RedisServer) -> bool:
    """Whether the server tells how many entries were ever added."""
    return server.version >= (7,)


async def keep(client: Redis, entries: int) -> None:
    await client.xtrim(STREAM, maxlen=entries, approximate=False)


async def append_and_keep(client: Redis, entries: int, *ids: str, transaction: bool = True) -> list[str]:
    """Append, and trim in the same moment, so that nobody reads in between; or somebody, without a transaction."""
    async with client.pipeline(transaction=transaction) as pipeline:
        for id in ids:
            pipeline.xadd(STREAM, {"operation": "thing.remove", "id": id})
        pipeline.xtrim(STREAM, maxlen=entries, approximate=False)
        *added, _ = await pipeline.execute()
    return [id.decode() for id in added]


class Listener(Recorder):
    """Notes what is reported, and consumes in the background: both in one list, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def gap(self, details: GapDetails) -> None:
        super().gap(details)
        self.told.append(details)

    def reset(self, details: ResetDetails) -> None:
        super().reset(details)
        self.told.append(details)

    async def listen(self, subscriber: Subscriber) -> None:
        async for event in subscriber:
            self.told.append(thing(event))

    @property
    def events(self) -> list[str]:
        return [each for each in self.told if isinstance(each, str)]


@pytest.fixture
def listener() -> Listener:
    return Listener()


class Consuming:
    """A subscriber whose events a listener takes as they come."""

    def __init__(self, subscriber: Subscriber, listener: Listener) -> None:
        self.subscriber = subscriber
        self._listener = listener

    async def __aenter__(self) -> Subscriber:
        await self.subscriber.start()
        self._task = asyncio.create_task(self._listener.listen(self.subscriber))
        return self.subscriber

    async def __aexit__(self, *_: object) -> None:
        await self.subscriber.aclose()
        await self._task


# --- gaps -----------------------------------------------------------------------------------------------------------


async def test_what_was_trimmed_while_it_fell_behind_is_told_before_the_first_event_behind_it(
    server: RedisServer, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await append(client, *span(1, 200))
    seen = Listener()
    async with subscriber(server, hooks=seen) as consumer:
        seen.told.append(thing(await anext(consumer)))
        await keep(client, 20)
        while seen.told[-1] != "t200":
            seen.told.append(thing(await anext(consumer)))
    [at] = [place for place, told in enumerate(seen.told) if isinstance(told, GapDetails)]
    last, first = seen.told[at - 1], seen.told[at + 1]
    assert (last, first) == (f"t{at}", "t181")
    missed = 180 - at if counts(server) else None
    assert seen.told[at] == GapDetails(STREAM, ids[at - 1], ids[180], missed, counts(server))
    assert seen.events == span(1, at) + span(181, 200)
    assert (consumer.stats.gaps, consumer.stats.missed) == (1, missed or 0)
    [line] = [record for record in caplog.records if record.getMessage().startswith("stream_gap")]
    assert line.levelno == logging.WARNING
    assert ids[at - 1] in line.getMessage()


async def test_what_was_trimmed_while_it_waited_is_told(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    async with Consuming(subscriber(server, hooks=listener), listener) as consumer:
        [before, *_] = await append(client, "t1")
        await wait_until(lambda: listener.events == ["t1"])
        await read_again(server)
        [*_, next, _] = await append_and_keep(client, 2, *span(2, 9))
        await wait_until(lambda: listener.events == ["t1", "t8", "t9"])
    missed = 6 if counts(server) else None
    assert listener.told[1] == GapDetails(STREAM, before, next, missed, counts(server))
    assert consumer.stats.missed == (missed or 0)


async def test_what_came_and_went_while_it_waited_is_told_with_the_next_event(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    async with Consuming(subscriber(server, hooks=listener), listener):
        await append(client, "t1")
        await wait_until(lambda: listener.events == ["t1"])
        await append_and_keep(client, 0, *span(2, 4))
        await read_again(server)
        assert listener.told == ["t1"]
        await append(client, "t5")
        await wait_until(lambda: listener.events == ["t1", "t5"])
    assert listener.told[1].missed == (3 if counts(server) else None)
    assert listener.told[1].exact is counts(server)


async def test_what_was_trimmed_while_it_reconnected_is_counted(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    async with Consuming(subscriber(server, hooks=listener), listener):
        await append(client, "t1")
        await wait_until(lambda: listener.events == ["t1"])
        await client.client_kill_filter(_type="normal", skipme=True)
        await append_and_keep(client, 1, *span(2, 5))
        await wait_until(lambda: listener.events == ["t1", "t5"])
    assert listener.told[1].missed == (3 if counts(server) else None)
    assert listener.of("reconnected")


async def test_what_was_trimmed_while_nobody_read_is_told_at_the_start(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    ids = await append(client, *span(1, 10))
    async with subscriber(server) as consumer:
        assert await take_all(consumer, 4) == span(1, 4)
    await keep(client, 3)
    async with Consuming(subscriber(server, hooks=listener), listener) as consumer:
        await wait_until(lambda: listener.events == span(8, 10))
    # Three are missing. This process only knows that seven are gone, the four among them that were handled.
    missed = 7 if counts(server) else None
    assert listener.told[0] == GapDetails(STREAM, ids[3], ids[7], missed, False)
    assert (consumer.stats.gaps, consumer.stats.missed) == (1, missed or 0)


async def test_a_gap_of_one_stream_is_told_of_that_one(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    both = Subscriber(server.url, [STREAM, "others"], "audit", start="earliest", hooks=listener)
    async with Consuming(both, listener):
        await append(client, "t1")
        await append(client, "o1", stream="others")
        await wait_until(lambda: sorted(listener.events) == ["o1", "t1"])
        await append_and_keep(client, 1, *span(2, 5))
        await append(client, "o2", stream="others")
        await wait_until(lambda: sorted(listener.events) == ["o1", "o2", "t1", "t5"])
    [gap] = listener.of("gap")
    assert (gap.stream, gap.missed) == (STREAM, 3 if counts(server) else None)
    assert listener.told.index(gap) + 1 == listener.told.index("t5")


async def test_on_a_cluster_a_gap_is_told_of_the_stream_that_has_it() -> None:
    listener = Listener()
    async with (
        cluster() as nodes,
        RedisCluster(host=str(nodes[0].host), port=int(nodes[0].port or 0)) as client,
    ):
        streams = ["a", "b", "c"]
        async with Consuming(
            Subscriber(client, streams, "audit", start="earliest", hooks=listener), listener
        ):
            for stream in streams:
                await client.xadd(stream, {"operation": "thing.remove", "id": f"{stream}1"})
            await wait_until(lambda: sorted(listener.events) == ["a1", "b1", "c1"])
            for id in ("b2", "b3", "b4"):
                await client.xadd("b", {"operation": "thing.remove", "id": id}, maxlen=1, approximate=False)
            await client.delete("c")
            await wait_until(lambda: "b4" in listener.events and listener.of("reset"))
    assert {gap.stream for gap in listener.of("gap")} <= {"b"}
    missed = sum(gap.missed or 0 for gap in listener.of("gap"))
    if counts(nodes[0]):
        assert len(listener.events) + missed == 6
    assert [reset.stream for reset in listener.of("reset")] == ["c"]


# --- no gap ---------------------------------------------------------------------------------------------------------


async def test_an_entry_that_was_trimmed_when_it_was_handled_is_not_missing(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    async with Consuming(subscriber(server, hooks=listener), listener):
        for number in range(1, 5):
            await append(client, f"t{number}")
            await wait_until(lambda number=number: len(listener.events) == number)
            await read_again(server)
            await keep(client, 0)
    assert listener.events == span(1, 4)
    if counts(server):
        assert listener.of("gap") == []
    else:
        # It cannot be told from one that was removed unread.
        assert [gap.missed for gap in listener.of("gap")] == [None] * 3


async def test_a_stored_cursor_at_the_end_of_a_stream_that_was_trimmed_misses_nothing(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    await append(client, *span(1, 4))
    async with subscriber(server) as consumer:
        await take_all(consumer, 4)
    await keep(client, 0)
    async with Consuming(subscriber(server, hooks=listener), listener):
        await read_again(server)
        await append(client, "t5")
        await wait_until(lambda: listener.events == ["t5"])
    assert listener.of("gap") == [] or not counts(server)
    assert listener.of("reset") == []


STARTS = [
    "earliest",
    "5000-0",
    "5500-0",
    "5500-7",
    "6999-0",
    datetime.fromtimestamp(5.5, UTC),
    timedelta(days=30_000),
]


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("start", STARTS, ids=str)
async def test_what_was_trimmed_before_a_subscription_began_is_not_missing(
    start: Any, trimmed: bool, server: RedisServer, client: Redis, listener: Listener
) -> None:
    for second in range(1, 10):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{second}"}, id=f"{second}000-0")
    if trimmed:
        await keep(client, 3)
    async with Consuming(subscriber(server, start=start, hooks=listener), listener):
        await wait_until(lambda: listener.events[-1:] == ["t9"])
        await append(client, "t10")
        await wait_until(lambda: listener.events[-1:] == ["t10"])
    assert listener.seen == []


async def test_what_is_known_of_one_stream_is_kept_while_another_is_refused(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.2)
    rights = "default on nopass ~things ~others ~mainflux:cursor:audit:things +@all"
    async with redis_server(config={"user": rights}) as server, Redis.from_url(server.url) as client:
        await append(client, *span(1, 9))
        await keep(client, 3)
        both = Subscriber(server.url, [STREAM, "others"], "audit", start="1-0", hooks=listener)
        server.hang()
        async with Consuming(both, listener):
            server.resume()
            await wait_until(lambda: any("GET on" in each.reason for each in listener.of("retrying")))
            await client.execute_command("ACL", "SETUSER", "default", "allkeys")
            await wait_until(lambda: listener.events == span(7, 9))
    assert listener.of("gap") == []


@pytest.mark.parametrize(
    "start", [timedelta(0), "new", datetime.now(UTC) + timedelta(seconds=0.5)], ids=["now", "new", "a time"]
)
async def test_a_stream_that_is_quiet_at_two_starts_is_not_another_one(
    start: Any, server: RedisServer, client: Redis, listener: Listener
) -> None:
    await client.xadd(STREAM, {"operation": "thing.remove", "id": "t1"}, id="1000-0")
    for _ in range(2):
        async with Consuming(subscriber(server, start=start, hooks=listener), listener):
            await read_again(server)
    assert listener.told == []


async def test_who_deletes_what_was_handled_misses_nothing(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    async with Consuming(subscriber(server, hooks=listener), listener):
        for number in range(1, 5):
            [id] = await append(client, f"t{number}")
            await wait_until(lambda number=number: len(listener.events) == number)
            await client.xdel(STREAM, id)
    assert listener.events == span(1, 4)
    # Without counts, the entry before being gone is all that is known, so that a gap is possible.
    assert [gap.missed for gap in listener.of("gap")] == ([] if counts(server) else [None] * 3)


# --- resets ---------------------------------------------------------------------------------------------------------


async def test_a_stream_that_is_deleted_while_idle_is_told_at_once_and_goes_on_from_the_beginning(
    server: RedisServer, client: Redis, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    async with Consuming(subscriber(server, hooks=listener), listener) as consumer:
        [id] = await append(client, "t1")
        await wait_until(lambda: listener.events == ["t1"])
        await client.delete(STREAM)
        await wait_until(lambda: listener.of("reset"))
        assert listener.told[1:] == [ResetDetails(STREAM, id, "0-0", "0-0")]
        for number in (1, 2):
            await client.xadd(STREAM, {"operation": "thing.remove", "id": f"n{number}"}, id=f"{number}-0")
        await wait_until(lambda: listener.events == ["t1", "n1", "n2"])
        assert consumer.stats.resets == 1
    assert await stored(client, "audit") == "2-0", "the cursor has gone back"
    assert "stream_reset: the stream 'things' was deleted" in caplog.text
    assert listener.of("gap") == []
    assert listener.of("lease_lost") == []


async def test_a_stream_that_is_deleted_and_there_again_is_told_before_its_first_event(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    async with Consuming(subscriber(server, hooks=listener), listener):
        ids = await append(client, *span(1, 3))
        await wait_until(lambda: listener.events == span(1, 3))
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.delete(STREAM)
            pipeline.xadd(STREAM, {"operation": "thing.remove", "id": "n1"})
            [_, new] = await pipeline.execute()
        await wait_until(lambda: listener.events == [*span(1, 3), "n1"])
    if counts(server):
        assert listener.told[3] == ResetDetails(STREAM, ids[2], new.decode(), "0-0")
    else:
        assert listener.told[3] == GapDetails(STREAM, ids[2], new.decode(), None, False)


async def test_ids_that_run_backwards_are_found_at_the_start(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    await client.set(KEY, "9000-0")
    for number in (1, 2):
        await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{number}"}, id=f"{number}000-0")
    async with Consuming(subscriber(server, hooks=listener), listener):
        await wait_until(lambda: listener.events == ["t1", "t2"])
    assert listener.told[0] == ResetDetails(STREAM, "9000-0", "2000-0", "0-0")
    assert await stored(client, "audit") == "2000-0"


async def test_a_server_that_was_killed_without_persistence_is_told_and_all_that_is_new_is_handled(
    fresh_server: RedisServer, listener: Listener
) -> None:
    async with Consuming(subscriber(fresh_server, hooks=listener), listener):
        async with Redis.from_url(fresh_server.url) as client:
            await append(client, *span(1, 3))
            await wait_until(lambda: listener.events == span(1, 3))
        await fresh_server.kill()
        await fresh_server.restart()
        async with Redis.from_url(fresh_server.url) as client:
            await append(client, "n1")
            await wait_until(lambda: listener.events == [*span(1, 3), "n1"])
    told = [type(each) for each in listener.told if not isinstance(each, str)]
    assert told == [ResetDetails] or (told == [GapDetails] and not counts(fresh_server))


async def test_a_database_that_was_flushed_is_told_and_the_cursor_is_stored_again(
    fresh_server: RedisServer, listener: Listener
) -> None:
    async with Redis.from_url(fresh_server.url) as client:
        await append(client, *span(1, 3))
        async with Consuming(subscriber(fresh_server, hooks=listener), listener):
            await wait_until(lambda: listener.events == span(1, 3))
            await client.flushall()
            await wait_until(lambda: listener.of("reset"))
            await wait_until(lambda: _cursor_is(client, "0-0"))
            await append(client, "n1")
            await wait_until(lambda: listener.events == [*span(1, 3), "n1"])
        assert listener.of("lease_lost") == []


async def _cursor_is(client: Redis, id: str) -> bool:
    return await stored(client, "audit") == id


async def test_in_a_stream_that_was_restored_nothing_comes_again_that_was_read_and_is_still_there(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    """As after a failover to a replica that had not got the latest entries."""
    async with Consuming(subscriber(server, hooks=listener), listener):
        for number in range(1, 6):
            id = f"{number}000-0"
            await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{number}"}, id=id)
            await wait_until(lambda number=number: len(listener.events) == number)
            if number == 3:
                backup = await client.dump(STREAM)
        kept, between = "3000-0", "3000-1"
        await client.restore(STREAM, 0, backup, replace=True)
        await wait_until(lambda: listener.of("reset"))
        assert listener.told[5:] == [ResetDetails(STREAM, id, kept, kept)]
        await client.xadd(STREAM, {"operation": "thing.remove", "id": "n1"}, id=between)
        await wait_until(lambda: listener.events == [*span(1, 5), "n1"])
    assert await stored(client, "audit") == between


async def test_a_stream_with_the_same_ids_and_other_entries_is_another_one(
    server: RedisServer, client: Redis, listener: Listener
) -> None:
    async with Consuming(subscriber(server, hooks=listener), listener):
        for number in (1, 2, 3):
            await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{number}"}, id=f"{number}-0")
        await wait_until(lambda: listener.events == span(1, 3))
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.delete(STREAM)
            for number in (1, 2):
                pipeline.xadd(STREAM, {"operation": "thing.remove", "id": f"n{number}"}, id=f"{number}-0")
            await pipeline.execute()
        await wait_until(lambda: listener.events == [*span(1, 3), "n1", "n2"])
    assert listener.told[3] == ResetDetails(STREAM, "3-0", "2-0", "0-0")


async def test_a_stream_that_was_replaced_while_it_fell_behind_is_read_from_the_beginning(
    fresh_server: RedisServer, listener: Listener
) -> None:
    """It ends behind the place that was read up to, and before what was seen of the old one."""

    async def has_read() -> bool:
        return await calls(fresh_server, "xinfo") == 2  # the first was at the start

    end = FIRST_ENTRIES + 5

    async with Redis.from_url(fresh_server.url) as client:
        for number in range(1, FIRST_ENTRIES + 11):
            await client.xadd(STREAM, {"operation": "thing.remove", "id": f"t{number}"}, id=f"{number}-0")
        consumer = subscriber(fresh_server, hooks=listener)
        await consumer.start()
        await wait_until(has_read)
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.delete(STREAM)
            for number in range(1, end + 1):
                pipeline.xadd(STREAM, {"operation": "thing.remove", "id": f"n{number}"}, id=f"{number}-0")
            await pipeline.execute()
        task = asyncio.create_task(listener.listen(consumer))
        await wait_until(lambda: listener.events[-1:] == [f"n{end}"])
        await consumer.aclose()
        await task
    reset = ResetDetails(STREAM, f"{FIRST_ENTRIES}-0", f"{end}-0", "0-0")
    assert listener.told == [
        *span(1, FIRST_ENTRIES),
        reset,
        *(f"n{number}" for number in range(1, end + 1)),
    ]


# --- raised ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["loop", "run"])
async def test_a_gap_that_is_raised_ends_the_loop_and_the_next_one_goes_on_behind_it(
    how: str, server: RedisServer, client: Redis
) -> None:
    taken: list[str] = []

    async def consume() -> None:
        if how == "run":
            await consumer.run(lambda event: taken.append(thing(event)))
        else:
            async for event in consumer:
                taken.append(thing(event))  # noqa: PERF401 - as they come

    seen = Recorder()
    async with subscriber(server, on_gap="raise", hooks=seen) as consumer:
        [before, *_] = await append(client, "t1")
        first = asyncio.create_task(consume())
        await wait_until(lambda: taken == ["t1"])
        await read_again(server)
        [*_, next, _] = await append_and_keep(client, 2, *span(2, 9))
        with pytest.raises(StreamGap) as caught:
            await first
        error = caught.value
        missed = 6 if counts(server) else None
        assert (error.stream, error.after, error.next) == (STREAM, before, next)
        assert (error.missed, error.exact) == (missed, counts(server))
        assert taken == ["t1"]
        second = asyncio.create_task(consume())
        await wait_until(lambda: taken == ["t1", "t8", "t9"])
        assert len(seen.of("gap")) == consumer.stats.gaps == 1
    await second


async def test_a_gap_that_was_raised_is_told_again_after_a_restart(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *span(1, 10))
    async with subscriber(server) as consumer:
        await take_all(consumer, 4)
    await keep(client, 3)
    for _ in range(2):
        async with subscriber(server, on_gap="raise") as consumer:
            with pytest.raises(StreamGap):
                await anext(consumer)
    async with subscriber(server, on_gap="raise") as consumer:
        with pytest.raises(StreamGap):
            await anext(consumer)
        assert await take(consumer, 1) == ["t8"]


async def test_a_reset_that_is_raised_moves_the_cursor_only_when_somebody_goes_on(
    server: RedisServer, client: Redis
) -> None:
    [id] = await append(client, "t1")
    async with subscriber(server, on_gap="raise") as consumer:
        await take_all(consumer, 1)
        asking = asyncio.create_task(anext(consumer))
        await client.delete(STREAM)
        with pytest.raises(StreamReset) as caught:
            await asking
        error = caught.value
        assert (error.stream, error.after, error.last, error.resume) == (STREAM, id, "0-0", "0-0")
        assert await stored(client, "audit") == id
        assert consumer.stats.resets == 1
        asking = asyncio.create_task(anext(consumer))
        await wait_until(lambda: _cursor_is(client, "0-0"))
        await client.xadd(STREAM, {"operation": "thing.remove", "id": "n1"}, id="1-0")
        assert thing(await asking) == "n1"


@pytest.mark.parametrize("on_gap", ["ignore", "", None, True])
def test_another_policy_is_refused(on_gap: Any) -> None:
    with pytest.raises(ConfigError, match="on_gap"):
        Subscriber("redis://localhost", STREAM, "audit", on_gap=on_gap)


async def test_the_right_to_ask_what_a_stream_holds_is_missed_at_the_start(
    fresh_server: RedisServer,
) -> None:
    await fresh_server.command("SET", KEY, "1-0")
    await fresh_server.command("ACL", "SETUSER", "default", "-xinfo")
    with pytest.raises(AccessRefused, match=r"XINFO STREAM on 'things' .*\+xinfo"):
        await subscriber(fresh_server).start()


# --- all at once ----------------------------------------------------------------------------------------------------


class History:
    """What was ever added to a stream, and to those before it: held against what a subscriber was told."""

    def __init__(self) -> None:
        self.ids: dict[str, tuple[int, int]] = {}
        self.deleted: set[str] = set()

    async def add(self, client: Redis, random: Random) -> None:
        """Append some entries and trim, in one moment or nearly."""
        names = self._next(random.randint(1, 40))
        kept = random.choice([0, 1, 5, 20, 1000, 1000])
        if random.random() < 0.7:
            ids = await append_and_keep(client, kept, *names, transaction=random.random() < 0.5)
        else:
            ids = await append(client, *names)
            await keep(client, kept)
        self.ids |= zip(names, map(parsed, ids), strict=True)

    async def add_one(self, client: Redis) -> str:
        [name] = self._next(1)
        [id] = await append(client, name)
        self.ids[name] = parsed(id)
        return name

    async def delete_one(self, client: Redis, random: Random) -> None:
        """One of those that were added of late."""
        name, (milliseconds, sequence) = random.choice(list(self.ids.items())[-40:])
        if await client.xdel(STREAM, f"{milliseconds}-{sequence}"):
            self.deleted.add(name)

    def _next(self, count: int) -> list[str]:
        return span(len(self.ids) + 1, len(self.ids) + count)

    def untold(self, told: list[Any]) -> list[str]:
        """The events before which something was trimmed away that was not told of until then.

        A gap tells of what lies between its two IDs, was not handled, and is no part of an earlier one: that it is so
        many, or so many at most. Of what somebody deleted it may tell, too.
        """
        untold: list[str] = []
        missing = self.ids.keys() - {each for each in told if isinstance(each, str)}
        for each in told:
            covered: set[str] = set()
            if isinstance(each, GapDetails):
                after, next = parsed(each.after), parsed(each.next)
                covered = {name for name in missing if after < self.ids[name] < next}
                if each.exact:
                    assert each.missed == len(covered), each
                elif each.missed is not None:
                    assert each.missed >= len(covered), each
            elif isinstance(each, str):
                covered = {name for name in missing if self.ids[name] < self.ids[each]}
                if covered - self.deleted:
                    untold.append(each)
            missing -= covered
        return untold


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("deleting", "processes"),
    [(False, 1), (True, 1), (False, 4)],
    ids=["trimming", "trimming and deleting", "trimming, and reading by one process after another"],
)
async def test_what_is_handled_and_what_is_missed_is_all_that_was_ever_added(
    deleting: bool, processes: int, seed: int, server: RedisServer, client: Redis, listener: Listener
) -> None:
    random, history, resets, missed = Random(seed), History(), 0, 0

    async def catch_up() -> None:
        last = await history.add_one(client)
        await wait_until(lambda: listener.events[-1:] == [last], what=f"seed {seed}")

    for process in range(processes):
        if process:
            await history.add(client, random)
        commit = random.choice([Commit.each(), Commit.every()])
        async with Consuming(subscriber(server, hooks=listener, commit=commit), listener) as consumer:
            for _ in range(30 // processes):
                await history.add(client, random)
                if deleting and random.random() < 0.3:
                    await history.delete_one(client, random)
                if random.random() < 0.2:
                    await client.client_kill_filter(_type="normal", skipme=True)
                if random.random() < 0.3:
                    await read_again(server)
                if random.random() < 0.1:
                    await catch_up()
                    await client.delete(STREAM)
                    resets += 1
                    await wait_until(lambda: len(listener.of("reset")) == resets, what=f"seed {seed}")  # noqa: B023
            await catch_up()
        missed += consumer.stats.missed

    numbers = [int(event[1:]) for event in listener.events]
    assert numbers == sorted(set(numbers)), "in their order, none twice"
    gaps = listener.of("gap")
    assert missed == sum(gap.missed or 0 for gap in gaps)
    untold = history.untold(listener.told)
    if not counts(server):
        # At the beginning of a stream, no entry before it can be found to be gone.
        assert len(untold) <= 1 + resets
        return
    assert untold == []
    assert any(gap.exact for gap in gaps)
    if not deleting and processes == 1:
        assert all(gap.exact for gap in gaps)
        assert len(numbers) + missed == len(history.ids)
