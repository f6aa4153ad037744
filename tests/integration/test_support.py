"""The helpers and fixtures that other tests trust."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from mainflux_events.testing import RedisServer
from support import no_clients_left, wait_until, within


async def test_wait_until_returns_when_the_condition_holds() -> None:
    happened = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, happened.set)
    await wait_until(happened.is_set)
    assert happened.is_set()


async def test_wait_until_takes_a_coroutine_function() -> None:
    answers = iter([False, False, True])

    async def condition() -> bool:
        return next(answers)

    await wait_until(condition)
    assert list(answers) == []


async def test_wait_until_names_what_did_not_happen() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the cows come home"):
        await wait_until(lambda: False, 0.01, what="the cows come home")
    never = False
    with pytest.raises(AssertionError, match="lambda: never"):
        await wait_until(lambda: never, 0.01)


async def test_within_counts_what_is_waited_for() -> None:
    async def wait() -> None:
        with within(0.1):
            for _ in range(50):
                await asyncio.sleep(0.006)

    with pytest.raises(AssertionError, match="it took"):
        await wait()


async def test_within_counts_what_this_process_works() -> None:
    def work() -> None:
        with within(0.1):
            until = time.process_time() + 0.15
            while time.process_time() < until:
                pass

    with pytest.raises(AssertionError, match="it took"):
        work()


async def test_within_counts_no_time_in_which_this_process_stood_still() -> None:
    with within(0.1):
        time.sleep(0.15)  # as a process does that the machine lets wait


@pytest.mark.parametrize("_time", [1, 2])
async def test_the_shared_server_is_empty_for_each_test(_time: int, client: Redis) -> None:
    assert await client.dbsize() == 0
    await client.set("left", "over")


async def test_a_connection_that_stays_is_found_and_closed(fresh_server: RedisServer) -> None:
    async with Redis.from_url(fresh_server.url, client_name="forgotten") as client:
        await client.ping()
        with pytest.raises(AssertionError, match="name=forgotten"):
            await no_clients_left(fresh_server, 0.05)
        await no_clients_left(fresh_server)


async def test_a_connection_that_goes_is_waited_for(fresh_server: RedisServer) -> None:
    client = Redis.from_url(fresh_server.url)
    await client.ping()

    async def looks() -> int:
        stats = await client.info("commandstats")
        return sum(each["calls"] for name, each in stats.items() if name.startswith("cmdstat_client"))

    async def has_looked() -> bool:
        return await looks() > before

    before = await looks()
    checking = asyncio.create_task(no_clients_left(fresh_server))
    await wait_until(has_looked)
    assert not checking.done()
    await client.aclose()
    await checking
    assert len((await fresh_server.command("CLIENT", "LIST")).splitlines()) == 1
