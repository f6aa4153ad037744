"""Only type-checked: the kit for tests as its users see it."""

from __future__ import annotations

import time
from typing import Any, assert_type

from mainflux_events import Action, Event, Hooks, Subscriber
from mainflux_events.testing import EventRecorder, HookRecorder, MemoryServer, memory_server, wait_for
from mainflux_events.testing.pytest import events_memory, events_redis

fixtures = (events_memory, events_redis)


async def handle(event: Event) -> None: ...


async def there() -> list[int]:
    return [1]


async def use() -> None:
    with memory_server("name", clock=time.time) as server:
        assert_type(server, MemoryServer)
        assert_type(server.url, str)
        assert_type(server.events("things"), list[Event])
        assert_type(server.connections(), list[str])
        await server.command("SET", b"k", 1, timeout=1)
    for recorder in (EventRecorder(), EventRecorder(handle), EventRecorder(print)):
        assert_type(recorder.events, list[Event])
        assert_type(recorder.actions, list[Action])
        assert_type(await recorder.wait_for(1, timeout=1), list[Event])
    hooks: Hooks = HookRecorder()
    assert isinstance(hooks, HookRecorder)
    assert_type(hooks.of("gap"), list[Any])
    assert_type(await wait_for(lambda: 1, timeout=1, what="one"), int)
    assert_type(await wait_for(there), list[int])
    subscriber = Subscriber("memory://name", "things", "audit")
    await subscriber.run(EventRecorder(handle))
    await subscriber.run(EventRecorder(), batch=10)
