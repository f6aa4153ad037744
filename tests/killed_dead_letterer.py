"""A process whose handlers always fail, and which is killed, as hard as can be, at a moment of its own choice.

Arguments: the server's URL, the name of a hook, and the ID of the entry for which that hook kills.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from consuming import STREAM
from mainflux_events import DeadLetters, Event, Hooks, Retry, Subscriber

URL, HOOK, LAST = sys.argv[1:]


def kill(self: Hooks, details: Any) -> None:
    id = details.id if HOOK == "dead_lettered" else details.event.id
    if id == LAST:
        os.kill(os.getpid(), signal.SIGKILL)


def handle(event: Event) -> None:
    raise RuntimeError("as always")


hooks = type("Killing", (Hooks,), {HOOK: kill})()
subscriber = Subscriber(
    URL, STREAM, "audit", start="earliest", dead_letter=DeadLetters("dead", limit=None), hooks=hooks
)
asyncio.run(subscriber.run(handle, retry=Retry(attempts=1)))
