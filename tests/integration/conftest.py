from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from consuming import STREAM
from mainflux_events import Subscriber
from mainflux_events.testing import RedisServer


@pytest.fixture
async def subscriber(server: RedisServer) -> AsyncIterator[Subscriber]:
    """A started subscriber of the name "audit" at the end of an empty stream."""
    async with Subscriber(server.url, STREAM, "audit") as subscriber:
        yield subscriber


@pytest.fixture
def nothing_unforeseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The event loop has nothing to say of exceptions that went through."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"] == []
