from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from consuming import STREAM
from mainflux_events import Subscriber
from mainflux_events.testing import RedisServer


@pytest.fixture
async def subscriber(server: RedisServer) -> AsyncIterator[Subscriber]:
    """A started subscriber of the name "audit" at the end of an empty stream."""
    async with Subscriber(server.url, STREAM, "audit") as subscriber:
        yield subscriber
