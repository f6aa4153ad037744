from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from faults.kit import quick_subscribers
from faults.proxy import Proxy, proxy_to
from mainflux_events.testing import RedisServer


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick_subscribers():
        yield


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    """A proxy in front of ``server``."""
    async with proxy_to(server) as proxy:
        yield proxy


@pytest.fixture
async def direct(fresh_server: RedisServer) -> AsyncIterator[Redis]:
    """redis-py's client of ``fresh_server``, which makes a new connection where that is needed."""
    async with Redis.from_url(fresh_server.url, retry=Retry(NoBackoff(), 1)) as client:
        yield client
