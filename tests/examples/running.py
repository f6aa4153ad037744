"""Examples as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from support import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


async def output_of(script: str, redis_url: str) -> str:
    """Run a script to its end, which has to be a good one. Gives what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / script),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | {"REDIS_URL": redis_url},
    )  # fmt: skip
    output, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    return output.decode()


async def accepts(address: str) -> bool:
    """Whether a connection can be made."""
    host, port = address.removeprefix("http://").split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def serving(*command: str, redis_url: str) -> AsyncIterator[str]:
    """Run a web server's module of Python on a free port. Gives its address; at the end it is asked to stop."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-m", *command,
        cwd=EXAMPLES, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"REDIS_URL": redis_url, "PYTHONPATH": os.environ.get("PYTHONPATH", "") + f":{EXAMPLES}"},
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    try:
        while not (address := re.search(r"running on (http://[\d.]+:\d+)", said, re.IGNORECASE)):
            line = await process.stdout.readline()
            assert line, f"it ended:\n{said}"
            said += line.decode()
        # With several workers it says so before the first of them listens.
        await wait_until(lambda: accepts(address[1]), what=f"somebody listens at {address[1]}")
        yield address[1]
        process.terminate()
        said += (await process.stdout.read()).decode()
        await process.wait()
        assert "Traceback" not in said, said
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # it, and its workers
            await process.wait()
