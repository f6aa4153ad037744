"""`mainflux-events doctor`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from commands import command
from copies import now, shown
from integration.test_rights import listed
from mainflux_events.cli.behind import Behind
from mainflux_events.cli.doctor import server_checks as checks
from mainflux_events.cli.doctor.findings import Finding, Grade
from mainflux_events.cli.doctor.stream_checks import Trial, check_reader, check_rights, check_stream
from mainflux_events.gaps import Extent
from mainflux_events.testing import RedisServer, redis_server
from support import wait_until

OK, WARN, FAIL, UNKNOWN = "OK", "WARN", "FAIL", "UNKNOWN"


def graded(finding: Finding) -> str:
    """Its grade. Whatever is not well says what to do."""
    assert bool(finding.advice) == (finding.grade is not Grade.OK)
    return finding.grade.value


# --- what follows from what the server says


@pytest.mark.parametrize(
    ("info", "grade"),
    [
        ({"redis_version": "8.2.1"}, OK),
        ({"redis_version": "7.0.15"}, OK),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, OK),
        ({"redis_version": "6.2.14"}, WARN),
        ({"redis_version": "5.0.7"}, FAIL),
        (None, UNKNOWN),
    ],
)
def test_versions(info: checks.Info, grade: str) -> None:
    assert graded(checks.check_version(info)) == grade


@pytest.mark.parametrize(
    ("info", "config", "grade"),
    [
        ({"role": "master", "connected_slaves": "0"}, None, OK),
        ({"role": "master", "connected_slaves": "2"}, {"min-replicas-to-write": "1"}, OK),
        ({"role": "master", "connected_slaves": "2"}, {"min-replicas-to-write": "0"}, WARN),
        ({"role": "master", "connected_slaves": "2"}, None, OK),
        ({"role": "slave"}, None, FAIL),
        (None, None, UNKNOWN),
    ],
)
def test_roles(info: checks.Info, config: checks.Config, grade: str) -> None:
    assert graded(checks.check_role(info, config)) == grade


@pytest.mark.parametrize(
    ("info", "state", "grade"),
    [
        ({"cluster_enabled": "0"}, None, OK),
        ({"cluster_enabled": "1"}, "ok", WARN),
        ({"cluster_enabled": "1"}, None, WARN),
        ({"cluster_enabled": "1"}, "fail", FAIL),
        (None, None, UNKNOWN),
    ],
)
def test_clusters(info: checks.Info, state: str | None, grade: str) -> None:
    assert graded(checks.check_cluster(info, state)) == grade


WRITTEN = {"aof_enabled": "1", "aof_last_write_status": "ok", "rdb_last_bgsave_status": "ok"}
SAVED = WRITTEN | {"aof_enabled": "0"}


@pytest.mark.parametrize(
    ("info", "config", "grade"),
    [
        (WRITTEN, {"appendfsync": "everysec"}, OK),
        (WRITTEN, {"appendfsync": "always"}, OK),
        (WRITTEN, None, OK),
        (WRITTEN, {"appendfsync": "no"}, WARN),
        (WRITTEN | {"aof_last_write_status": "err"}, None, FAIL),
        (SAVED | {"rdb_last_bgsave_status": "err"}, None, FAIL),
        (SAVED, {"save": "3600 1"}, WARN),
        (SAVED, None, WARN),
        (SAVED, {"save": ""}, FAIL),
        (None, None, UNKNOWN),
    ],
)
def test_persistence(info: checks.Info, config: checks.Config, grade: str) -> None:
    assert graded(checks.check_persistence(info, config)) == grade


@pytest.mark.parametrize(
    ("used", "limit", "total", "grade"),
    [
        (50, 100, 1000, OK),
        (95, 100, 1000, WARN),
        (100, 100, 1000, FAIL),
        (50, 0, 1000, WARN),
        (950, 0, 1000, FAIL),
    ],
)
def test_memory(used: int, limit: int, total: int, grade: str) -> None:
    info = {"used_memory": str(used), "maxmemory": str(limit), "total_system_memory": str(total)}
    assert graded(checks.check_memory(info)) == grade


@pytest.mark.parametrize(
    ("policy", "limit", "grade"),
    [
        ("noeviction", "0", OK),
        ("noeviction", "100", OK),
        ("volatile-lru", "100", WARN),
        ("allkeys-lru", "100", FAIL),
        ("allkeys-lru", "0", WARN),
    ],
)
def test_eviction(policy: str, limit: str, grade: str) -> None:
    assert graded(checks.check_eviction({"maxmemory_policy": policy, "maxmemory": limit})) == grade


@pytest.mark.parametrize(
    ("ahead", "grade"),
    [(0.0, OK), (-0.9, OK), (2.0, WARN), (-2.0, WARN), (61.0, FAIL), (-61.0, FAIL), (None, UNKNOWN)],
)
def test_clocks(ahead: float | None, grade: str) -> None:
    assert graded(checks.check_clock(ahead)) == grade


@pytest.mark.parametrize(("seconds", "grade"), [(0.001, OK), (0.5, WARN)])
def test_the_time_of_an_answer(seconds: float, grade: str) -> None:
    assert graded(checks.check_connection("redis", seconds)) == grade


def extent(first: int | None, last: int, removed: int | None) -> Extent:
    """A stream with an entry each second."""
    length = 0 if first is None else last - first + 1
    added = None if removed is None else length + removed
    return Extent(length, first and (first * 1000, 0), (last * 1000, 0), added, removed, (0, 0))


@pytest.mark.parametrize(
    ("there", "kind", "now_ms", "grade"),
    [
        (extent(1, 100, 0), "stream", 100_000, OK),
        (extent(None, 100, 100), "stream", 100_000, OK),
        (extent(1, 100, 0), "", None, OK),
        (extent(None, 0, 0), "none", 100_000, WARN),
        (extent(1, 100, 0), "stream", 90_000, WARN),
        (None, "string", 100_000, FAIL),
        (None, "stream", 100_000, UNKNOWN),
    ],
)
def test_streams(there: Extent | None, kind: str, now_ms: int | None, grade: str) -> None:
    assert graded(check_stream("things", there, kind, now_ms)) == grade


@pytest.mark.parametrize(
    ("position", "there", "grade"),
    [
        ("100000-0", extent(51, 100, 50), OK),  # up to date
        ("90000-0", extent(51, 100, 50), OK),
        ("60000-0", extent(51, 100, 50), WARN),  # four fifths of what is kept
        ("60000-0", extent(51, 100, None), WARN),  # the server cannot tell whether anything was removed
        ("60000-0", extent(51, 100, 0), OK),  # nothing ever was
        ("50000-0", extent(51, 100, 50), FAIL),
        ("0-0", extent(51, 100, 50), WARN),  # what was gone when it began is not missing
        ("50000-0", extent(None, 100, 100), OK),
    ],
)
def test_readers(position: str, there: Extent, grade: str) -> None:
    behind = Behind("things", "subscriber", "audit", position, 10, 10.0)
    assert graded(check_reader(behind, there)) == grade


def test_a_reader_with_a_corrupt_cursor_has_failed() -> None:
    behind = Behind("things", "subscriber", "audit", None, None, None, trouble="corrupt cursor")
    assert graded(check_reader(behind, extent(1, 2, 0))) == FAIL


def test_a_user_that_can_do_something_is_warned_of_the_rest_and_one_that_can_nothing_has_failed() -> None:
    may, may_not = Trial("publish", (), "+xadd"), Trial("subscribe", ("XREAD",), "+xread")
    assert [graded(each) for each in check_rights([("a", may), ("b", may_not)])] == [OK, WARN]
    assert [graded(each) for each in check_rights([("a", may_not), ("b", may_not)])] == [FAIL, FAIL]


# --- the command


def by_check(outcome: Any) -> dict[str, str]:
    return {each["check"]: each["grade"] for each in outcome.json}


def test_a_server_and_its_streams_are_looked_at_and_nothing_is_changed(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for second in range(1, 101):
        now(server.command("XADD", "things", f"{second * 1000}-0", "operation", "thing.remove"))
    now(server.command("XTRIM", "things", "MAXLEN", "50"))
    for name, cursor in (("late", "10000-0"), ("far", "52000-0"), ("near", "99000-0"), ("broken", "x")):
        now(server.command("SET", f"mainflux:cursor:{name}:things", cursor))
    now(server.command("XGROUP", "CREATE", "things", "workers", "$"))
    before = now(state_of(server))
    outcome = shown(capsys, "doctor", "--stream", "things", "--redis", server.url, "--json")
    found = by_check(outcome)
    assert outcome.status == 3
    assert (
        found
        | {
            "persistence": FAIL,
            "eviction": OK,
            "stream things": OK,
            "rights to publish": OK,
            "subscriber late of things": FAIL,
            "subscriber far of things": WARN,
            "subscriber near of things": OK,
            "subscriber broken of things": FAIL,
            "group workers of things": OK,
        }
        == found
    )
    assert now(state_of(server)) == before


async def state_of(server: RedisServer) -> dict[bytes, Any]:
    """All keys with what they hold, consumers included."""
    return {key: await server.command("DUMP", key) for key in await server.command("KEYS", "*")}


async def test_as_text_each_finding_that_is_not_well_is_followed_by_what_to_do() -> None:
    async with redis_server(
        aof=True, config={"maxmemory": "1gb", "maxmemory-policy": "volatile-lru"}
    ) as server:
        await server.command("XADD", "things", "*", "operation", "thing.remove")
        outcome = await command("doctor", "--stream", "things", "--redis", server.url)
    assert outcome.status == 0
    *lines, counts = outcome.lines
    grades = [line[:8].strip() for line in lines]
    assert all(grade == ("" if before == "WARN" else grade) for before, grade in pairwise(grades))
    assert set(grades) == {"OK", "WARN", ""}
    assert grades.count("WARN") == grades.count("")
    assert counts == f"{grades.count('OK')} OK, {grades.count('WARN')} WARN"
    assert "\x1b" not in outcome.output


def test_a_user_without_rights_is_told_what_could_not_be_looked_at(
    fresh_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = ("on", ">geheim", "~things", "+xadd", "+multi", "+exec")
    now(fresh_server.command("ACL", "SETUSER", "few", *rule))
    url = fresh_server.url.replace("unix://", "unix://few:geheim@")
    outcome = shown(capsys, "doctor", "--stream", "things", "--redis", url, "--json")
    found = by_check(outcome)
    assert outcome.status == 0
    hidden = ("version", "role", "memory", "clock", "stream things", "who reads things")
    assert {found[check] for check in hidden} == {UNKNOWN}
    assert [found["rights to publish"], found["rights to subscribe"]] == [OK, WARN]
    assert "geheim" not in outcome.output


@pytest.mark.parametrize(
    ("user", "able"),
    [
        ("publisher", "rights to publish"),
        ("audit", "rights to subscribe as audit"),
        ("member", "rights to consume in a group"),
    ],
)
def test_the_rights_that_the_pages_list_are_enough_for_what_they_are_for(
    user: str, able: str, fresh_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    now(fresh_server.command("ACL", "SETUSER", user, "reset", *listed(user)))
    url = fresh_server.url.replace("unix://", f"unix://{user}:secret@")
    outcome = shown(
        capsys, "doctor", "--stream", "mainflux.things", "--name", "audit", "--redis", url, "--json"
    )
    found = by_check(outcome).items()
    assert [check for check, grade in found if check.startswith("rights") and grade == OK] == [able]


async def test_a_replica_has_failed(server: RedisServer) -> None:
    async with redis_server(tcp=True) as master, redis_server() as replica:
        await replica.command("REPLICAOF", master.host or "", master.port or 0)

        async def follows() -> bool:
            return b"connected_slaves:1" in await master.command("INFO", "replication")

        await wait_until(follows)
        assert by_check(await command("doctor", "--redis", replica.url, "--json"))["role"] == FAIL
        assert by_check(await command("doctor", "--redis", master.url, "--json"))["role"] == WARN


@pytest.mark.parametrize("url", ["redis://user:geheim@127.0.0.1:1", "{}"])
async def test_a_server_that_cannot_be_asked_is_one_finding_and_status_1(url: str) -> None:
    async with redis_server(tcp=True, password="right") as locked:
        url = url.format(locked.url.replace("right", "geheim"))
        outcome = await command("doctor", "--redis", url, "--json")
    assert (outcome.status, by_check(outcome)) == (1, {"connection": FAIL})
    assert "geheim" not in outcome.output + outcome.errors
