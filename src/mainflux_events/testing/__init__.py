"""What a test of a service with events needs: a real Redis server to throw away.

Nothing here needs pytest; use it from any test framework, a script or a notebook.
"""

from .server import RedisServer, ServerFailed, ServerNotFound, find_redis_server, redis_server

__all__ = ["RedisServer", "ServerFailed", "ServerNotFound", "find_redis_server", "redis_server"]
