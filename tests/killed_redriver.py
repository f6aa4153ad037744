"""A process that redrives all dead letters, to be killed meanwhile. Argument: the server's URL."""

from __future__ import annotations

import asyncio
import sys

from mainflux_events import redrive

asyncio.run(redrive(sys.argv[1], "dead"))
