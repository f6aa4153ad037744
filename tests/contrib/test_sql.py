"""Cursors in a database: what a handler does there takes effect exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import signal
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

import killed_ledger
from consuming import STREAM, Recorder, append, thing
from mainflux_events import (
    AlreadyHandled,
    Commit,
    ConfigError,
    CursorCorrupt,
    Event,
    LeaseLost,
    Retry,
    Subscriber,
    ThingRemoved,
    read_dead_letters,
)
from mainflux_events.contrib.sql import SqlCursors
from mainflux_events.testing import RedisServer
from support import wait_until

AT_ONCE = Retry(attempts=2, initial=0.0)

EFFECTS = sa.Table("effects", sa.MetaData(), sa.Column("thing", sa.String(20)))


class Ledger:
    """A subscriber that notes each thing in a table, in the transaction that moves its cursor."""

    def __init__(self, server: RedisServer, engine: AsyncEngine, **options: Any) -> None:
        self.engine = engine
        self.cursors = SqlCursors(engine)
        self.recorder = Recorder()
        settings: dict[str, Any] = {"stream": STREAM, "name": "ledger", "start": "earliest"} | options
        self.subscriber = Subscriber(server.url, cursors=self.cursors, hooks=self.recorder, **settings)

    async def note(self, event: Event) -> None:
        async with self.cursors.transaction(event) as connection:
            await note(connection, event)

    async def effects(self) -> list[str]:
        async with self.engine.connect() as connection:
            return list((await connection.scalars(sa.select(EFFECTS.c.thing))).all())

    async def stored(self, stream: str = STREAM) -> str | None:
        return await self.cursors.load("ledger", stream)

    async def has(self, *effects: str) -> bool:
        return await self.effects() == list(effects)

    @contextlib.asynccontextmanager
    async def running(
        self, handler: Any = None, *, until: type[Exception] | None = None, batch: int = 1
    ) -> Any:
        """A run in the background, which ends when the subscriber is closed, or with such an error."""
        await create(self)
        task = asyncio.create_task(self.subscriber.run(handler or self.note, retry=AT_ONCE, batch=batch))
        try:
            yield task
        finally:
            await self.subscriber.aclose()
            with pytest.raises(until) if until else contextlib.nullcontext():
                await task


async def note(connection: AsyncConnection, event: Event) -> None:
    await connection.execute(EFFECTS.insert().values(thing=thing(event)))


async def create(ledger: Ledger) -> None:
    await ledger.cursors.create()
    async with ledger.engine.begin() as connection:
        await connection.run_sync(EFFECTS.metadata.create_all)


@pytest.fixture
async def ledger(server: RedisServer, engine: AsyncEngine) -> Ledger:
    """One whose tables are there."""
    ledger = Ledger(server, engine)
    await create(ledger)
    return ledger


# --- a transaction ---


async def test_what_a_handler_does_is_committed_with_the_cursor(ledger: Ledger, client: Redis) -> None:
    *_, last = await append(client, "t1", "t2", "t3")
    async with ledger.running():
        await wait_until(lambda: ledger.has("t1", "t2", "t3"))
        assert await ledger.stored() == last
        # What is committed is seen before the handler has returned.
        await wait_until(lambda: ledger.subscriber.stats.handled == 3)
    assert await client.keys("mainflux:*") == []


async def test_what_a_handler_that_fails_has_done_is_undone_and_done_again(
    ledger: Ledger, client: Redis
) -> None:
    _, last = await append(client, "t1", "t2")

    async def fails_once(event: Event) -> None:
        async with ledger.cursors.transaction(event) as connection:
            await note(connection, event)
            if thing(event) == "t2" and not ledger.recorder.of("handler_failed"):
                raise LookupError("not yet")

    async with ledger.running(fails_once):
        await wait_until(lambda: ledger.has("t1", "t2"))
    assert [details.final for details in ledger.recorder.of("handler_failed")] == [False]
    assert await ledger.stored() == last


async def test_nothing_is_seen_of_a_transaction_before_it_is_committed(ledger: Ledger, client: Redis) -> None:
    [only] = await append(client, "t1")
    async with ledger.subscriber as subscriber:
        event = await anext(subscriber)
        before = await ledger.stored()
        with contextlib.suppress(LookupError):
            async with ledger.cursors.transaction(event) as connection:
                await note(connection, event)
                assert await connection.scalar(sa.select(ledger.cursors.table.c.id)) == only
                raise LookupError
        assert await ledger.stored() == before == "0-0"
        assert await ledger.effects() == []


async def test_a_loop_that_was_left_begins_again_behind_what_is_committed(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    first, second = Ledger(server, engine), Ledger(server, engine)
    await create(first)
    await append(client, "t1", "t2", "t3")
    async with first.subscriber as subscriber:
        async for event in subscriber:
            await first.note(event)
            if thing(event) == "t2":
                break  # it is not finished for the loop, but it is committed
    async with second.subscriber as subscriber:
        assert thing(await anext(subscriber)) == "t3"


class LostAnswer:
    """Has the answer to one COMMIT get lost, when armed.

    Attributes:
        armed: whether it is the next one.
        lost: how many were.
    """

    def __init__(self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.armed, self.lost = False, 0
        dialect = engine.sync_engine.dialect
        self._commit = dialect.do_commit
        monkeypatch.setattr(type(dialect), "do_commit", self)

    def __call__(self, connection: Any) -> None:
        self._commit(connection)
        if self.armed and not self.lost:
            self.lost += 1
            raise OperationalError("COMMIT", None, ConnectionResetError())


async def test_a_transaction_that_was_committed_and_not_answered_is_not_done_again(
    ledger: Ledger, client: Redis, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = LostAnswer(engine, monkeypatch)
    await append(client, "t1", "t2")

    async def handle(event: Event) -> None:
        answer.armed = True
        await ledger.note(event)

    async with ledger.running(handle):
        await wait_until(lambda: ledger.has("t1", "t2"))
    assert answer.lost == 1
    assert ledger.subscriber.stats.handled == 2
    assert ledger.subscriber.stats.given_up == 0


async def test_nor_is_that_of_a_batch_of_several_streams(
    server: RedisServer, client: Redis, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, answer = Ledger(server, engine, stream=["others", "things"]), LostAnswer(engine, monkeypatch)
    await create(ledger)
    [one] = await append(client, "t1")
    [other] = await append(client, "t2", stream="others")
    calls: list[list[str]] = []

    async def handle(events: list[Event]) -> None:
        calls.append(sorted(thing(event) for event in events))
        answer.armed = True
        async with ledger.cursors.transaction(events) as connection:
            for event in events:
                await note(connection, event)

    async with ledger.running(handle, batch=2):
        await wait_until(lambda: ledger.subscriber.stats.handled == 2)
        assert [await ledger.stored("things"), await ledger.stored("others")] == [one, other]
    assert sorted(await ledger.effects()) == ["t1", "t2"]
    assert calls == [["t1", "t2"]] * 2
    assert ledger.subscriber.stats.given_up == 0


async def test_a_batch_of_which_a_stream_alone_was_committed_before_is_not_taken_for_handled(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    ledger = Ledger(server, engine, stream=["things", "others"])
    await create(ledger)
    await append(client, "t1")
    await append(client, "t2", stream="others")
    refused: list[str] = []

    async def handle(events: list[Event]) -> None:
        [one, other] = sorted(events, key=lambda event: event.stream)
        if not refused:
            await ledger.note(one)
        try:
            async with ledger.cursors.transaction([one, other]):
                pass
        except AlreadyHandled as error:
            refused.append(error.stream)
            await ledger.note(other)

    async with ledger.running(handle, batch=2):
        await wait_until(lambda: ledger.subscriber.stats.handled == 2)
    assert refused == ["others"]
    assert sorted(await ledger.effects()) == ["t1", "t2"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_connection_that_ends_within_a_transaction_costs_an_attempt_and_no_effect(
    ledger: Ledger, client: Redis, engine: AsyncEngine
) -> None:
    await append(client, "t1", "t2")

    async def handle(event: Event) -> None:
        async with ledger.cursors.transaction(event) as connection:
            await note(connection, event)
            if not ledger.recorder.of("handler_failed"):
                backend = await connection.scalar(sa.text("SELECT pg_backend_pid()"))
                async with engine.connect() as another:
                    await another.execute(sa.text(f"SELECT pg_terminate_backend({backend})"))

    async with ledger.running(handle):
        await wait_until(lambda: ledger.has("t1", "t2"))
    # SQLAlchemy 2.0 may hand the dead connection out once more, which costs the other event an attempt as well.
    assert {failed.attempt for failed in ledger.recorder.of("handler_failed")} == {1}
    assert ledger.recorder.of("lease_lost") == []


async def test_a_second_transaction_of_an_event_is_refused(ledger: Ledger, client: Redis) -> None:
    [only] = await append(client, "t1")
    async with ledger.subscriber as subscriber:
        event = await anext(subscriber)
        await ledger.note(event)
        with pytest.raises(AlreadyHandled, match=f"entry {only} of 'things' was handled in a transaction"):
            await ledger.note(event)
    assert await ledger.effects() == ["t1"]


async def test_an_event_before_the_one_that_was_committed_last_is_no_event_that_was_handled(
    ledger: Ledger, client: Redis
) -> None:
    await append(client, "t1", "t2")
    async with ledger.subscriber as subscriber:
        first, second = await anext(subscriber), await anext(subscriber)
        await ledger.note(second)
        with pytest.raises(RuntimeError, match="one event, or batch, at a time"):
            await ledger.note(first)


async def test_a_batch_is_handled_in_one_transaction_or_not_at_all(ledger: Ledger, client: Redis) -> None:
    things = [f"t{number}" for number in range(10)]
    *_, last = await append(client, *things)
    sizes: list[int] = []

    async def handle(events: list[Event]) -> None:
        sizes.append(len(events))
        async with ledger.cursors.transaction(events) as connection:
            for event in events:
                await note(connection, event)
            if not ledger.recorder.of("handler_failed"):
                raise LookupError("not yet")

    async with ledger.running(handle, batch=10):
        await wait_until(lambda: ledger.has(*things))
        assert await ledger.stored() == last
    assert sizes == [10, 10]


@pytest.mark.parametrize("when", ["within", "behind"])
async def test_killed_within_or_behind_a_transaction_over_several_streams_it_hands_out_again_what_was_not_committed(
    when: str, server: RedisServer, client: Redis, database: str
) -> None:
    ledger = killed_ledger.Ledger(database)
    await ledger.create()
    appended = {stream: [f"{stream[0]}{number}" for number in range(200)] for stream in killed_ledger.STREAMS}
    for turn in range(20):  # by turns, so that batches hold some of both
        for stream, things in appended.items():
            await append(client, *things[10 * turn : 10 * turn + 10], stream=stream)
    command = [sys.executable, killed_ledger.__file__, server.url, database]
    for batches in (0, 2):
        process = await asyncio.create_subprocess_exec(*command, str(batches), when)
        assert await process.wait() == -signal.SIGKILL
    committed = await noted(ledger)
    handled = sum(map(len, committed.values()))
    assert handled
    assert handled < 400
    async with ledger.subscriber(server.url) as subscriber:
        running = asyncio.create_task(subscriber.run(ledger.note, batch=killed_ledger.BATCH))
        await wait_until(lambda: len(ledger.noted) >= 400 - handled)
        running.cancel()
        await asyncio.wait([running])
    for stream, things in appended.items():
        assert committed[stream] == things[: len(committed[stream])]
        again = [thing(event) for event in ledger.noted if event.stream == stream]
        assert again == things[len(committed[stream]) :], "what was not committed, and nothing else"
    assert await noted(ledger) == appended
    await ledger.engine.dispose()


async def noted(ledger: killed_ledger.Ledger) -> dict[str, list[str]]:
    """The notes by stream, in order."""
    async with ledger.engine.connect() as connection:
        rows = list(await connection.execute(sa.select(killed_ledger.NOTES)))
    found = {stream: [row.thing for row in rows if row.stream == stream] for stream in killed_ledger.STREAMS}
    return {stream: sorted(things, key=lambda each: int(each[1:])) for stream, things in found.items()}


async def test_a_session_of_the_orm_can_be_part_of_it(ledger: Ledger, client: Redis) -> None:
    await append(client, "t1", "t2")

    async def handle(event: Event) -> None:
        async with ledger.cursors.transaction(event) as connection, AsyncSession(connection) as session:
            await session.execute(EFFECTS.insert().values(thing=thing(event)))
            await session.flush()
            if thing(event) == "t2" and ledger.subscriber.stats.retried == 0:
                raise LookupError

    async with ledger.running(handle):
        await wait_until(lambda: ledger.has("t1", "t2"))


async def test_an_event_of_another_subscriber_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="was not received by the subscriber of these cursors"):
        async with ledger.cursors.transaction(Event(ThingRemoved(id="t1"))):
            pass


# --- two readers of one name ---


async def test_of_two_readers_of_a_name_the_one_that_comes_second_does_nothing_and_stops(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    quick, slow = Ledger(server, engine), Ledger(server, engine)
    await create(quick)
    _, second = await append(client, "t1", "t2")
    async with slow.subscriber:
        event = await anext(slow.subscriber)
        async with quick.running():
            await wait_until(lambda: quick.has("t1", "t2"))
        with pytest.raises(LeaseLost, match=f"'ledger'.*moved to {second} by somebody else"):
            await slow.note(event)
    assert await quick.effects() == ["t1", "t2"]
    [lost] = slow.recorder.of("lease_lost")
    assert (lost.stream, lost.found, lost.stopped) == (STREAM, second, False)
    assert quick.recorder.of("lease_lost") == []


async def test_a_run_that_came_second_ends_with_that_and_gives_nothing_up(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    quick, slow = Ledger(server, engine), Ledger(server, engine, dead_letter="dead")
    await create(quick)
    await append(client, "t1")
    overtaken = asyncio.Event()

    async def handle(event: Event) -> None:
        await overtaken.wait()
        await slow.note(event)

    async with slow.running(handle, until=LeaseLost) as run:
        await wait_until(lambda: slow.subscriber.stats.received == 1)
        async with quick.running():
            await wait_until(lambda: quick.has("t1"))
        overtaken.set()
        await asyncio.wait([run])
    assert slow.recorder.of("handler_failed") == []
    assert await client.exists("dead") == 0


async def test_readers_that_race_have_each_event_take_effect_once(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    things = [f"t{number}" for number in range(60)]
    await append(client, *things)
    ledgers = [Ledger(server, engine) for _ in range(3)]
    await create(ledgers[0])

    all_begin = asyncio.Barrier(3)

    async def read(ledger: Ledger) -> None:
        calls = itertools.count()

        async def handle(event: Event) -> None:
            if next(calls) == 0:
                await all_begin.wait()
            await ledger.note(event)

        with contextlib.suppress(LeaseLost):
            await ledger.subscriber.run(handle)

    def lost() -> int:
        return sum(bool(ledger.recorder.of("lease_lost")) for ledger in ledgers)

    async with asyncio.TaskGroup() as tasks:
        for ledger in ledgers:
            tasks.create_task(read(ledger))
        await wait_until(lambda: ledgers[0].has(*things))
        await wait_until(lambda: lost() == 2)
        for ledger in ledgers:
            await ledger.subscriber.aclose()
    assert lost() == 2


async def test_a_reader_without_transactions_stops_too_where_another_one_is_ahead(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    quick, slow = Ledger(server, engine), Ledger(server, engine)
    await create(quick)
    await append(client, "t1", "t2")
    async with slow.subscriber:
        event = await anext(slow.subscriber)
        async with quick.running():
            await wait_until(lambda: quick.has("t1", "t2"))
        with pytest.raises(LeaseLost):
            await slow.subscriber.commit(event)
        with pytest.raises(LeaseLost):
            await anext(slow.subscriber)


# --- what is stored without a transaction ---


async def test_the_place_to_begin_at_is_stored_at_once(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    ledger = Ledger(server, engine, start="new")
    await create(ledger)
    [last] = await append(client, "t1")
    async with ledger.subscriber:
        assert await ledger.stored() == last


async def test_entries_that_are_passed_over_are_stored_as_done_with(ledger: Ledger, client: Redis) -> None:
    await append(client, "t1")
    unknown = await client.xadd(STREAM, {"operation": "something.else"})
    async with ledger.running():

        async def passed() -> bool:
            return await ledger.stored() == unknown.decode()

        await wait_until(passed)
        await append(client, "t2")
        await wait_until(lambda: ledger.has("t1", "t2"))


async def test_events_without_a_transaction_are_stored_by_the_policy_and_at_the_end(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    ledger = Ledger(server, engine, commit=Commit.every(events=100, seconds=1000))
    await create(ledger)
    _, second, _ = await append(client, "t1", "t2", "t3")
    async with ledger.subscriber as subscriber:
        for _ in range(3):
            event = await anext(subscriber)
        assert await ledger.stored() == "0-0"
    assert event.id != second
    assert await ledger.stored() == second


async def test_an_event_is_committed_by_hand(ledger: Ledger, client: Redis) -> None:
    [only] = await append(client, "t1")
    async with ledger.subscriber as subscriber:
        await subscriber.commit(await anext(subscriber))
        assert await ledger.stored() == only


async def test_an_event_that_no_attempt_handled_is_dead_lettered_and_passed(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    ledger = Ledger(server, engine, dead_letter="dead")
    bad, last = await append(client, "t1", "t2")

    async def handle(event: Event) -> None:
        async with ledger.cursors.transaction(event) as connection:
            await note(connection, event)
            if thing(event) == "t1":
                raise LookupError

    async with ledger.running(handle):
        await wait_until(lambda: ledger.has("t2"))
    assert [letter.source_id async for letter in read_dead_letters(server.url, "dead")] == [bad]
    assert await ledger.stored() == last


async def test_each_of_several_streams_has_a_row(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    ledger = Ledger(server, engine, stream=["things", "others"])
    [one] = await append(client, "t1")
    [other] = await append(client, "t2", stream="others")
    async with ledger.running():

        async def both() -> bool:
            return sorted(await ledger.effects()) == ["t1", "t2"]

        await wait_until(both)
    async with engine.connect() as connection:
        columns = ledger.cursors.table.c
        rows = await connection.execute(sa.select(columns.name, columns.stream, columns.id))
        assert {tuple(row) for row in rows} == {("ledger", "things", one), ("ledger", "others", other)}


async def test_the_lag_counts_what_is_not_committed(ledger: Ledger, client: Redis) -> None:
    await append(client, "t1", "t2", "t3")
    async with ledger.subscriber as subscriber:
        await ledger.note(await anext(subscriber))
        await anext(subscriber)
        assert (await subscriber.lag())[STREAM].entries == 2


# --- the stream is another one, an operator ---


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_stream_that_was_replaced_is_read_from_its_beginning_and_each_event_takes_effect_once(
    ledger: Ledger, client: Redis
) -> None:
    await append(client, "t1", "t2")
    async with ledger.running():
        await wait_until(lambda: ledger.has("t1", "t2"))
        await client.delete(STREAM)
        for number in (1, 2):
            await client.xadd(STREAM, {"operation": "thing.remove", "id": f"new{number}"}, id=f"{number}-0")
        await wait_until(lambda: ledger.has("t1", "t2", "new1", "new2"))
        assert await ledger.stored() == "2-0"
    assert len(ledger.recorder.of("reset")) == 1
    assert ledger.recorder.of("lease_lost") == []


async def test_an_operator_who_moves_the_cursor_stops_the_reader_and_the_next_one_begins_there(
    server: RedisServer, client: Redis, engine: AsyncEngine
) -> None:
    ledger, operator, again = Ledger(server, engine), SqlCursors(engine), Ledger(server, engine)
    first, _ = await append(client, "t1", "t2")
    async with ledger.running(until=LeaseLost) as run:
        await wait_until(lambda: ledger.has("t1", "t2"))
        await operator.seek("ledger", STREAM, first)
        await append(client, "t3")
        await asyncio.wait([run])
    assert [lost.found for lost in ledger.recorder.of("lease_lost")] == [first]
    async with again.running():
        await wait_until(lambda: again.has("t1", "t2", "t2", "t3"))


async def test_a_place_to_begin_at_can_be_set_before_the_first_start(ledger: Ledger, client: Redis) -> None:
    first, _ = await append(client, "t1", "t2")
    await ledger.cursors.seek("ledger", STREAM, first)
    async with ledger.subscriber as subscriber:
        assert thing(await anext(subscriber)) == "t2"


@pytest.mark.parametrize("id", ["", "$", "1", "new"])
async def test_what_is_no_id_is_not_stored(id: str, engine: AsyncEngine) -> None:
    cursors = SqlCursors(engine)
    await cursors.create()
    with pytest.raises(ConfigError, match="^id: that of an entry is wanted"):
        await cursors.seek("ledger", STREAM, id)
    assert await cursors.load("ledger", STREAM) is None


# --- the table ---


async def test_a_table_that_is_missing_is_told_at_the_start(server: RedisServer, engine: AsyncEngine) -> None:
    with pytest.raises(ConfigError, match="the table 'mainflux_cursors' is not there.*create"):
        await Ledger(server, engine).subscriber.start()


async def test_the_table_can_be_created_again_and_by_several_at_once(engine: AsyncEngine) -> None:
    every = [SqlCursors(engine, table="elsewhere") for _ in range(4)]
    await asyncio.gather(*(cursors.create() for cursors in every))
    await every[0].create()
    assert await every[0].move("ledger", STREAM, None, "1-0")
    assert not await every[1].move("ledger", STREAM, None, "2-0")
    assert await every[2].load("ledger", STREAM) == "1-0"


async def test_what_is_no_id_in_the_table_is_told_at_the_start(ledger: Ledger, engine: AsyncEngine) -> None:
    assert await ledger.cursors.move("ledger", STREAM, None, "nonsense")
    with pytest.raises(CursorCorrupt, match="'mainflux:cursor:ledger:things' holds 'nonsense'"):
        await ledger.subscriber.start()


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match="^engine: what create_async_engine gives is wanted, not str"):
        SqlCursors("sqlite://")  # type: ignore[arg-type]


# --- the page ---


async def test_the_other_store_of_the_page_moves_its_cursors_in_transactions_too(
    server: RedisServer, client: Redis, postgres_directory: str
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "databases.md").read_text()
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1], names)
    things = ["t1", "t2", "t3"]
    *_, last = await append(client, *things)
    async with asyncpg.create_pool(host=postgres_directory, user="postgres", database="postgres") as pool:
        await pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await pool.execute(
            "CREATE TABLE cursors (name text, stream text, id text, PRIMARY KEY (name, stream))"
        )
        await pool.execute("CREATE TABLE effects (thing text)")
        stores = [names["Shelf"](pool), names["Shelf"](pool)]
        first, second = [
            Subscriber(server.url, STREAM, "ledger", start="earliest", cursors=store) for store in stores
        ]
        async with first, second:
            outdated = await anext(second)
            for _ in things:
                event = await anext(first)
                async with stores[0].transaction(event) as connection:
                    await connection.execute("INSERT INTO effects VALUES ($1)", thing(event))
            with pytest.raises(LeaseLost):
                async with stores[1].transaction(outdated):
                    pass
        assert [row["thing"] for row in await pool.fetch("SELECT thing FROM effects")] == things
        assert await stores[0].load("ledger", STREAM) == last
