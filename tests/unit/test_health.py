"""What is said of how somebody gets on, from what is known."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mainflux_events.buffer import Buffer
from mainflux_events.health import (
    Condition,
    Consuming,
    Publishing,
    publisher_health,
    subscriber_health,
)

NOW = 1000.0
MAX_STALL = 10.0
READS = Condition("read", worked=999.0)


def publishing(**known: Any) -> Any:
    idle = {
        "closed": "",
        "line": Condition("append"),
        "unacknowledged": 0,
        "accepted": None,
        "acknowledged": None,
        "started": 900.0,
        "ended": None,
    }
    return publisher_health(Publishing(**(idle | known)), NOW, MAX_STALL)


def consuming(**known: Any) -> Any:
    idle = {
        "closed": "",
        "died": "",
        "lines": [READS],
        "standby": False,
        "shut": None,
        "in_hand": None,
        "entry": "",
        "unasked": None,
        "started": 900.0,
    }
    return subscriber_health(Consuming(**(idle | known)), NOW, MAX_STALL)


def seconds_ago(moment: datetime | None) -> float:
    assert moment is not None
    return (datetime.now(UTC) - moment) / timedelta(seconds=1)


# ---- publishers


def test_a_publisher_with_nothing_to_do_is_healthy_however_long_nothing_was_acknowledged() -> None:
    found = publishing(acknowledged=901.0)
    assert (found.healthy, found.reason) == (True, "everything that was accepted is acknowledged")
    assert found.oldest_unacknowledged is None
    assert seconds_ago(found.last_acknowledged) == pytest.approx(99.0, abs=1.0)
    assert seconds_ago(found.since) == pytest.approx(100.0, abs=1.0)


def test_a_publisher_that_gets_nothing_acknowledged_for_too_long_is_not() -> None:
    line = Condition("append", failing=986.0, reason="refused: OOM")
    found = publishing(unacknowledged=7, accepted=985.0, acknowledged=950.0, line=line)
    assert (found.healthy, found.oldest_unacknowledged) == (False, 15.0)
    assert found.reason == "7 events are not acknowledged, and none was for 15.0 s: refused: OOM"
    assert seconds_ago(found.since) == pytest.approx(15.0, abs=1.0)


def test_a_publisher_that_is_behind_but_gets_on_is_healthy() -> None:
    found = publishing(unacknowledged=7, accepted=900.0, acknowledged=999.5)
    assert (found.healthy, found.oldest_unacknowledged) == (True, 100.0)
    assert found.reason == "7 events are being appended"


def test_a_short_trouble_is_told_and_is_none_yet() -> None:
    line = Condition("append", failing=997.0, reason="no connection")
    found = publishing(unacknowledged=1, accepted=995.0, line=line)
    assert (found.healthy, found.reason) == (True, "1 events are being appended: no connection")


def test_a_publisher_is_healthy_since_it_got_over_its_last_trouble() -> None:
    found = publishing(line=Condition("append", worked=990.0, recovered=970.0))
    assert seconds_ago(found.since) == pytest.approx(30.0, abs=1.0)


def test_a_closed_publisher_is_not_healthy_since_its_end() -> None:
    found = publishing(closed="it is closed", ended=980.0)
    assert (found.healthy, found.reason) == (False, "it is closed")
    assert seconds_ago(found.since) == pytest.approx(20.0, abs=1.0)


# ---- subscribers


def test_a_subscriber_that_waits_for_events_is_healthy() -> None:
    found = consuming()
    assert (found.healthy, found.reason, found.in_hand) == (True, "it waits for events", None)
    assert seconds_ago(found.last_read) == pytest.approx(1.0, abs=1.0)
    assert seconds_ago(found.since) == pytest.approx(100.0, abs=1.0)


def test_a_subscriber_that_stands_by_is_healthy_and_says_so() -> None:
    found = consuming(standby=True, lines=[])
    assert (found.healthy, found.standby) == (True, True)
    assert found.reason == "it stands by: another subscriber of its name reads"


@pytest.mark.parametrize(("since", "healthy"), [(990.5, True), (989.5, False)])
def test_an_event_may_be_in_hand_for_so_long(since: float, healthy: bool) -> None:
    found = consuming(in_hand=since, entry="entry 1-0 of 'things'")
    assert (found.healthy, found.in_hand) == (healthy, NOW - since)
    assert "entry 1-0 of 'things'" in found.reason
    assert healthy or found.reason.startswith("for 10.5 s")


@pytest.mark.parametrize(("since", "healthy"), [(990.5, True), (989.5, False)])
def test_events_may_wait_for_so_long_until_somebody_asks(since: float, healthy: bool) -> None:
    found = consuming(unasked=since)
    assert found.healthy is healthy
    assert "nobody" in found.reason


@pytest.mark.parametrize(("since", "healthy"), [(990.5, True), (989.5, False)])
def test_a_lease_may_be_in_doubt_for_so_long(since: float, healthy: bool) -> None:
    assert consuming(shut=since).healthy is healthy


@pytest.mark.parametrize("what", ["read", "commit", "dead_letter", "lease"])
@pytest.mark.parametrize(("worked", "healthy"), [(990.5, True), (989.5, False)])
def test_attempts_may_fail_for_so_long(what: str, worked: float, healthy: bool) -> None:
    line = Condition(what, worked=worked, failing=worked + 1, reason="no connection")
    found = consuming(lines=[line])
    assert found.healthy is healthy
    assert found.reason.endswith(": no connection")


def test_a_line_that_never_worked_is_judged_from_its_first_failure() -> None:
    assert not consuming(lines=[Condition("read", failing=989.0, reason="no")]).healthy
    assert consuming(lines=[Condition("read", failing=991.0, reason="no")]).healthy


def test_what_no_attempt_will_mend_is_told_at_once() -> None:
    found = consuming(lines=[Condition("read", worked=999.0, failing=999.0, reason="corrupt", final=True)])
    assert (found.healthy, found.reason) == (False, "reading has failed for 1.0 s: corrupt")


def test_a_subscriber_that_died_or_is_closed_says_why() -> None:
    assert (consuming(died="its lease is lost").healthy, consuming(closed="closed").healthy) == (False, False)
    assert consuming(died="its lease is lost").reason == "its lease is lost"
    assert seconds_ago(consuming(died="its lease is lost").since) == pytest.approx(1.0, abs=1.0)


# ---- since when the oldest event of a buffer is there


async def test_the_age_of_the_oldest_event_is_that_of_the_batch_it_waited_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("mainflux_events.buffer.monotonic", lambda: now)
    buffer = Buffer(size=10, size_bytes=1000, overflow="raise", dropped=lambda *_: None)
    assert buffer.oldest_accepted is None
    buffer.put(b"a")
    await buffer.next_batch(10, 1000)
    now = 107.0
    buffer.put(b"b")
    assert buffer.oldest_accepted == 100.0  # a, which is in flight
    buffer.settle(1)
    assert buffer.oldest_accepted == 100.0  # b: after a batch was taken, and not later than now
    now = 120.0
    await buffer.next_batch(10, 1000)
    buffer.settle(1)
    assert buffer.oldest_accepted is None


async def test_what_comes_into_an_empty_buffer_came_just_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("mainflux_events.buffer.monotonic", lambda: now)
    buffer = Buffer(size=10, size_bytes=1000, overflow="raise", dropped=lambda *_: None)
    for now in (100.0, 200.0):
        taking = asyncio.create_task(buffer.next_batch(10, 1000))
        await asyncio.sleep(0)
        buffer.put(b"a")
        await taking
        assert buffer.oldest_accepted == now
        buffer.settle(1)
    assert len(buffer._accepted) <= 2
