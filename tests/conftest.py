from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import settings
from redis.asyncio import Redis

from consuming import quick_subscribers
from mainflux_events.testing import RedisServer, redis_server
from support import direct_to, no_clients_left

# The first example pays for what is made on first use; how long one takes is not what the tests are about.
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-seed", type=int, help="the seed of the random faults, of one run")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _shared_server() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture
async def server(_shared_server: RedisServer) -> AsyncIterator[RedisServer]:
    """A server with nothing in it, shared with the other tests: neither stop it nor change its settings.

    Whoever connects has to be gone again soon after the test.
    """
    await _shared_server.command("FLUSHALL")
    await _shared_server.command("SCRIPT", "FLUSH")
    yield _shared_server
    await no_clients_left(_shared_server)


@pytest.fixture
async def fresh_server() -> AsyncIterator[RedisServer]:
    """A server of the test's own, without persistence: to be killed, hung and reconfigured."""
    async with redis_server() as server:
        yield server


@pytest.fixture
async def direct(fresh_server: RedisServer) -> AsyncIterator[Redis]:
    """redis-py's client of ``fresh_server``, which makes a new connection where that is needed."""
    async with direct_to(fresh_server) as client:
        yield client


@pytest.fixture
def quick() -> Iterator[None]:
    """Subscribers of this test are quick to try again."""
    with quick_subscribers():
        yield


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    """redis-py's client of ``server``, which gives bytes: for the test's own look at what is there."""
    async with Redis.from_url(server.url) as client:
        yield client
