"""A real terminal for a command: a pty, and what is seen on its screen."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator

import pyte

from commands import ENVIRONMENT
from support import wait_until

ALTERNATE_SCREEN = b"\x1b[?1049"
CURSOR = b"\x1b[?25"


class Terminal:
    """A terminal in which a command runs.

    Attributes:
        process: the command.
        screen: what is on the screen, with colours.
        written: all that it has written, control characters included.
    """

    def __init__(self, *arguments: str, columns: int = 120, lines: int = 30, **environment: str) -> None:
        self._main, self._side = pty.openpty()
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.resize(columns, lines)
        self._settings = termios.tcgetattr(self._side)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mainflux_events", *arguments],
            stdin=self._side,
            stdout=self._side,
            stderr=self._side,
            env=ENVIRONMENT | environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no other way to Ctrl-C
        )
        asyncio.get_running_loop().add_reader(self._main, self._take)

    def _take(self) -> None:
        data = os.read(self._main, 65536)
        self.written += data
        self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The same in one."""
        return "\n".join(self.lines)

    async def shows(self, text: str) -> None:
        """Wait until this is on the screen."""
        try:
            await wait_until(lambda: text in self.text, 40)
        except AssertionError:
            raise AssertionError(f"{text!r} is not on the screen:\n{self.text}") from None

    def press(self, keys: str) -> None:
        """Press keys; `\\x03` is Ctrl-C."""
        os.write(self._main, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Have another size, and begin with an empty screen."""
        fcntl.ioctl(self._side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)
        self.screen.reset()

    async def ended(self) -> int:
        """Wait for the end of the command. Gives its status."""
        await wait_until(lambda: self.process.poll() is not None, 40)
        while select.select([self._main], [], [], 0)[0]:
            self._take()
        status = self.process.returncode
        assert status is not None
        return status

    @property
    def as_it_was(self) -> bool:
        """Whether the terminal is left as it was found: its settings, its screen, its cursor."""
        settings = termios.tcgetattr(self._side) == self._settings
        return settings and all(
            self.written.rfind(switch + back) >= self.written.rfind(switch + there)
            for switch, there, back in ((ALTERNATE_SCREEN, b"h", b"l"), (CURSOR, b"l", b"h"))
        )

    def close(self) -> None:
        """End it, with what runs in it."""
        asyncio.get_running_loop().remove_reader(self._main)
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._main)
        os.close(self._side)


@contextlib.asynccontextmanager
async def terminal(
    *arguments: str, columns: int = 120, lines: int = 30, **environment: str
) -> AsyncIterator[Terminal]:
    """A terminal with a command in it."""
    opened = Terminal(*arguments, columns=columns, lines=lines, **environment)
    try:
        yield opened
    finally:
        opened.close()
