"""Ports of this machine, for servers that have to be told where to listen."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import sys
from collections.abc import Iterator
from typing import Final

HOST: Final = "127.0.0.1"


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 where nobody listens, nor on that of a cluster's bus, which is 10,000 above.

    Both are below the range that the system takes the client's end from: there, a client that tries again and again
    to reach a server that is down can happen to connect to itself, and any client may hold the port of the bus.

    While the context lasts, nobody else finds them free, be it before the server starts or while it is down. Raises
    ``OSError`` where none is found.
    """
    for _ in range(100):
        port = random.randint(10_000, 22_000)  # noqa: S311 - no secret
        with socket.socket() as own, socket.socket() as bus:
            try:
                own.bind((HOST, port))
                bus.bind((HOST, port + 10_000))
            except OSError:
                continue
            for each in (own, bus):
                if sys.platform == "linux":
                    # Where both allow it, a server listens beside a socket that does not.
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                else:  # pragma: no cover - other systems do not let it
                    each.close()
            yield port
            return
    raise OSError(errno.EADDRINUSE, f"no free port was found on {HOST}")
