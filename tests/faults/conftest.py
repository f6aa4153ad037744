from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from faults.proxy import Proxy, proxy_to
from mainflux_events.testing import RedisServer


@pytest.fixture(autouse=True)
def _quick(quick: None) -> None:
    """All subscribers here are."""


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    """A proxy in front of ``server``."""
    async with proxy_to(server) as proxy:
        yield proxy
