"""What a test of a service with events needs: a real Redis server to throw away, and one in memory.

Nothing here needs pytest; use it from any test framework, a script or a notebook. For pytest there are fixtures, in
``mainflux_events.testing.pytest``.
"""

from .memory import MemoryServer, memory_server
from .recording import EventRecorder, HookRecorder
from .server import RedisServer, ServerFailed, ServerNotFound, find_redis_server, redis_server
from .waiting import wait_for

__all__ = [
    "EventRecorder",
    "HookRecorder",
    "MemoryServer",
    "RedisServer",
    "ServerFailed",
    "ServerNotFound",
    "find_redis_server",
    "memory_server",
    "redis_server",
    "wait_for",
]
