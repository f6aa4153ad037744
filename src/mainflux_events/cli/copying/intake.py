"""Lines that come in, as entries: the next are read when the last are appended."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import AsyncIterator, Iterable

from .lines import BadLine, Entry, entry_of

# So many bytes are read at once.
CHUNK = 1024 * 1024


class Intake:
    """Reads entries from a file.

    Args:
        file: lines of JSON, unbuffered: a buffer could not be closed while it is waited for what comes.

    Attributes:
        read: how many bytes were read.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._number = 0
        self.read: int = 0

    async def batches(self) -> AsyncIterator[list[Entry]]:
        """The entries, those that came at once together. Blank lines are passed over.

        Raises:
            BadLine: a line is no entry. All before it were given.
        """
        rest: list[bytes] = []  # of a line whose end did not come yet
        while chunk := await _read(self._file):
            self.read += len(chunk)
            first, *others = chunk.split(b"\n")
            rest.append(first)
            if others:
                lines = [b"".join(rest), *others[:-1]]
                rest = [others[-1]]
                entries, bad = self._parsed(lines)
                yield entries
                if bad is not None:
                    raise bad
        entries, bad = self._parsed([b"".join(rest)])
        yield entries
        if bad is not None:
            raise bad

    def _parsed(self, lines: Iterable[bytes]) -> tuple[list[Entry], BadLine | None]:
        """The entries of lines, up to the first that is none."""
        entries = []
        for line in lines:
            self._number += 1
            if line.strip():
                try:
                    entries.append(entry_of(line, self._number))
                except BadLine as error:
                    return entries, error
        return entries, None


async def _read(file: io.FileIO) -> bytes:
    """What there is next.

    It is waited for in a thread that the end of the process does not wait for, as nothing may come any more.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def settle(chunk: bytes, error: OSError | None) -> None:
        if not done.done():
            done.set_result(chunk) if error is None else done.set_exception(error)

    def work() -> None:
        chunk, trouble = b"", None
        try:
            chunk = file.read(CHUNK)
        except OSError as error:
            trouble = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, chunk, trouble)

    threading.Thread(target=work, daemon=True).start()
    return await done
