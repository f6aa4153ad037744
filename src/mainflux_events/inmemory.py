"""The way to a server in the memory of this process, `memory://name`. `testing` keeps these servers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from .errors import ConfigError

# By name, what makes a connection to `memory://name`. `testing` enters them.
IN_MEMORY: Final[dict[str, Callable[[], Any]]] = {}
_IN_MEMORY: Final = re.compile(r"memory://([\w.-]+)", re.ASCII)


class Memory:
    """In place of a pool of redis-py: gives connections to a server in the memory of this process.

    Raises:
        ConfigError: that is no URL of one.
    """

    def __init__(self, url: str) -> None:
        match = _IN_MEMORY.fullmatch(url)
        if match is None:
            raise ConfigError(
                "redis: a server in memory has the URL memory://name, with no user, port, database or options"
            )
        self._name = match[1]

    def make_connection(self) -> Any:
        """What a `Link` takes for a connection that redis-py has made. Raises ConfigError where there is no server."""
        connect = IN_MEMORY.get(self._name)
        if connect is None:
            raise ConfigError(
                f"redis: there is no memory://{self._name} in this process now: it is there for tests, inside of "
                "mainflux_events.testing.memory_server or the fixture of pytest"
            )
        return connect()
