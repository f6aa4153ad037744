"""Fixtures for pytest. Nothing loads them unasked; put this line into your ``conftest.py``:

```python
pytest_plugins = ["mainflux_events.testing.pytest"]
```

They are plain fixtures, for plain tests as well as for asynchronous ones under whatever plugin runs those.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from .memory import MemoryServer, memory_server
from .recording import EventRecorder, HookRecorder
from .server import RedisServer, redis_server

__all__ = ["event_recorder", "events_memory", "events_redis", "hook_recorder"]


@pytest.fixture
def events_memory() -> Iterator[MemoryServer]:
    """A server in memory, of the test's own. The test fails if somebody is still connected in the end."""
    with memory_server() as server:
        yield server
        if left := server.connections():
            pytest.fail(
                f"{len(left)} connections to {server.url} were left open; the last command of each: {', '.join(left)}. "
                "Close each Publisher and Subscriber, by `async with` or aclose()",
                pytrace=False,
            )


@pytest.fixture
def events_redis() -> Iterator[RedisServer]:
    """A real redis-server of the test's own, without persistence: to be killed, hung and restarted."""
    # On a loop that is nobody else's and does not become the current one: which that is, is for the test to say.
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        context = redis_server()
        server = loop.run_until_complete(context.__aenter__())
        try:
            yield server
        finally:
            loop.run_until_complete(context.__aexit__(None, None, None))


@pytest.fixture
def event_recorder() -> EventRecorder:
    """A handler that keeps what it was given."""
    return EventRecorder()


@pytest.fixture
def hook_recorder() -> HookRecorder:
    """Hooks that keep what is reported."""
    return HookRecorder()
