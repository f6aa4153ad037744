"""The checker of histories: each kind of violation is found, and nothing else is called one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from faults.proxy import proxy_to
from histories import Account, History, Readings, stored_entries, violations
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

EVENTS = ("a", "b", "c", "d", "e")
WELL = Account(accepted=EVENTS, acknowledged=5, sent={"b": "2"})


def entries(*things: str) -> dict[str, str]:
    """A stream that holds these things; the entries' IDs count from 1."""
    return {str(number): thing for number, thing in enumerate(things, 1)}


def test_what_is_as_promised_is_no_violation() -> None:
    assert violations(WELL, entries(*EVENTS)) == []


@pytest.mark.parametrize(
    ("account", "stored"),
    [
        (replace(WELL, acknowledged=3, dropped=["d"], undelivered=["e"]), "abc"),
        (replace(WELL, acknowledged=4, undelivered=["e"]), "abcde"),
        (replace(WELL, acknowledged=4, undelivered=["e"], failed=["e"]), "abcd"),
        (replace(WELL, duplicates=3), "abcdecde"),
        (replace(WELL, duplicates=2), "abcabde"),
        (replace(WELL, sent={}, kept=False), "de"),
    ],
    ids=[
        "reported and not there",
        "given up, and there all the same",
        "told to its sender too",
        "again, as often as may be",
        "again in between",
        "lost by the server, as is known",
    ],
)
def test_what_may_be_is_no_violation(account: Account, stored: str) -> None:
    assert violations(account, entries(*stored)) == []


@pytest.mark.parametrize(
    ("account", "stored", "found"),
    [
        (WELL, "abce", "1 acknowledged and not stored: d"),
        (replace(WELL, acknowledged=4), "abcde", "5 were accepted and not reported, but 4 are acknowledged"),
        (replace(WELL, acknowledged=4), "abcd", "5 were accepted and not reported, but 4 are acknowledged"),
        (WELL, "abcdex", "1 stored and never accepted: x"),
        (WELL, "abdce", "2 out of order: c for d, d for c"),
        (
            replace(WELL, acknowledged=4, undelivered=["c"]),
            "abdec",
            "3 out of order: c for e, d for c, e for d",
        ),
        (WELL, "abcdea", "1 stored again, 0 at most are promised"),
        (replace(WELL, duplicates=2), "abcdeabc", "3 stored again, 2 at most are promised"),
        (replace(WELL, acknowledged=4, dropped=["e"]), "abcde", "1 dropped and stored: e"),
        (replace(WELL, acknowledged=4, dropped=["e", "e"]), "abcd", "1 reported twice: e"),
        (replace(WELL, acknowledged=4, dropped=["e"], undelivered=["e"]), "abcd", "1 reported twice: e"),
        (replace(WELL, undelivered=["x"]), "abcde", "1 reported and never accepted: x"),
        (replace(WELL, sent={"b": "3"}), "abcde", "1 sent and not where its sender was told: b"),
        (replace(WELL, sent={"b": "9"}), "abcde", "1 sent and not where its sender was told: b"),
        (replace(WELL, acknowledged=4, undelivered=["b"]), "abcde", "1 sent and reported as lost: b"),
        (replace(WELL, failed=["d"]), "abcde", "1 undelivered to its sender and not reported: d"),
        (replace(WELL, sent={}, kept=False), "edc", "2 out of order: c for e, e for c"),
    ],
)
def test_each_kind_of_violation_is_found(account: Account, stored: str, found: str) -> None:
    assert found in violations(account, entries(*stored))


def test_many_are_told_in_one_line() -> None:
    account = Account(accepted=[f"{number:03}" for number in range(100)], acknowledged=100)
    [line] = violations(account, {})
    assert line == "100 acknowledged and not stored: 000, 001, 002, 003, 004, …"


async def test_counts_that_do_not_fit_the_reports_are_found(server: RedisServer, client: Redis) -> None:
    history = History()
    async with history.publisher(server.url) as publisher:
        history.publish(publisher, 3)
        await publisher.flush(PATIENCE)
    stored = await stored_entries(client)
    history.check(publisher, stored)
    history.accepted.append("9999999")
    with pytest.raises(
        AssertionError, match=r"buffered, in flight: \(3, 0, 0, 0, 0\), not \(4, 0, 0, 0, 0\)"
    ):
        history.check(publisher, stored)


async def test_what_is_still_buffered_is_found(fresh_server: RedisServer) -> None:
    history = History()
    async with history.publisher(fresh_server.url, close_timeout=0) as publisher:
        await fresh_server.kill()
        history.publish(publisher, 3)
        assert "(3, 0, 0, 3, 0), not (3, 0, 0, 0, 0)" in history.violations(publisher, {})[-1]


# --- how many may be there again ---


async def test_at_risk_is_what_was_in_flight_when_a_connection_failed(server: RedisServer) -> None:
    history = History()
    async with proxy_to(server) as proxy, history.publisher(proxy.url()) as publisher:
        proxy.cut("to client", 5)
        history.publish(publisher, 7)
        await publisher.flush(PATIENCE)
        assert history.recorder.at_risk == 7
        proxy.cut("to client", 5)
        history.publish(publisher, 2)
        await publisher.flush(PATIENCE)
        assert history.recorder.at_risk == 9


async def test_nothing_is_at_risk_where_the_server_refuses_or_is_not_there(fresh_server: RedisServer) -> None:
    history = History()
    async with proxy_to(fresh_server) as proxy, history.publisher(proxy.url()) as publisher:
        for refusing in (("CONFIG", "SET", "maxmemory", 1), ("REPLICAOF", "127.0.0.1", 1)):
            told = len(history.recorder.retries)
            await fresh_server.command(*refusing)
            history.publish(publisher, 7)
            await wait_until(lambda told=told: len(history.recorder.retries) > told + 2)  # type: ignore[misc]
            await fresh_server.command("CONFIG", "SET", "maxmemory", 0)
            await fresh_server.command("REPLICAOF", "NO", "ONE")
            await publisher.flush(PATIENCE)
        proxy.refuse()
        proxy.reset()
        history.publish(publisher, 7)
        await wait_until(lambda: any("cannot be reached" in each.reason for each in history.recorder.retries))
        proxy.hold()
        await proxy.accept()
        await wait_until(lambda: any("did not answer" in each.reason for each in history.recorder.retries))
        proxy.release()
        await publisher.flush(PATIENCE)
    assert history.recorder.at_risk == 7, "those that were written to the connection that was reset"


async def test_an_idempotent_publisher_may_store_nothing_again(server: RedisServer, client: Redis) -> None:
    history = History()
    async with proxy_to(server) as proxy, history.publisher(proxy.url()) as publisher:
        proxy.cut("to client", 5)
        history.publish(publisher, 7)
        await publisher.flush(PATIENCE)
    stored = await stored_entries(client)
    assert history.violations(publisher, stored) == []
    history.idempotent = True
    assert history.violations(publisher, stored) == ["7 stored again, 0 at most are promised"]


# --- what subscribers were handed ---


def readings(*loops: str) -> Readings:
    """Of loops over entries; what is before a `|` is where one had to begin behind."""
    found = Readings()
    for loop in loops:
        behind, _, handed = loop.rpartition("|")
        found.begin(behind)
        for id in handed:
            found.note(id)
    return found


@pytest.mark.parametrize(
    "loops", [["abcde"], ["ab", "b|cde"], ["abc", "b|cde"], ["abc", "", "de"], ["abc", "abcde"], ["x|abcde"]]
)
def test_each_entry_in_order_and_again_only_what_was_not_finished_is_no_violation(loops: list[str]) -> None:
    assert readings(*loops).violations(EVENTS) == []


@pytest.mark.parametrize(
    ("loops", "found"),
    [
        (["abxcde"], "1 handed to loop 0 and not stored: x"),
        (["abce"], "loop 0 passed over d to d"),
        (["abbcde"], "loop 0 was handed b after b"),
        (["acbde"], "loop 0 was handed b after c"),
        (["cde"], "passed over before loop 0: a to b"),
        (["ab", "de"], "passed over before loop 1: c to c"),
        (["abc"], "2 never handed out, from d on"),
        ([""], "5 never handed out, from a on"),
        (["abcd", "c|cde"], "loop 1 was handed c again, though c was finished"),
        (["abcd", "c|abcde"], "loop 1 was handed a again, though c was finished"),
    ],
)
def test_each_kind_of_violation_by_a_subscriber_is_found(loops: list[str], found: str) -> None:
    assert found in readings(*loops).violations(EVENTS)


def test_what_was_handed_out_again_is_counted() -> None:
    assert readings("abc", "bcd", "e").again == 2
