"""One measurement in a process of its own: `python -m benchmarks.worker MODULE FUNCTION JSON`.

The function gets the JSON as keywords (where it takes `events`, `count` is turned into them) and gives what msgspec
can write; that is printed.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from typing import Any

import msgspec

from benchmarks.events import events


async def work(module: str, function: str, keywords: dict[str, Any]) -> Any:
    call = getattr(importlib.import_module(module), function)
    if "events" in inspect.signature(call).parameters:
        keywords["events"] = events(keywords.pop("count"))
    return await call(**keywords)


if __name__ == "__main__":
    result = asyncio.run(work(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
    sys.stdout.buffer.write(msgspec.json.encode(result))
