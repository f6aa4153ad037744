from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consuming import Recorder
from mainflux_events import Action, ConfigError, DecodeError, OrgCreated, ThingRemoved, UnknownAction
from mainflux_events.entries import Entries
from mainflux_events.events import Event
from mainflux_events.hooks import Observers
from mainflux_events.sieve import MOST_WARNINGS, Sieve


class SieveCounted(Action, tag="test.sieve.counted"):
    count: int


Entry = tuple[bytes, list[bytes]]


def entry(**fields: str) -> Entry:
    return b"5-1", [part.encode() for pair in fields.items() for part in pair]


def sift(sieve: Sieve, entry: Entry) -> Event | None:
    passed, events, unreadable, ends = sieve.sift("things", Entries.of([entry]))
    assert (passed, list(ends)) in [(1, []), (0, [1])]
    assert unreadable is None
    return events[0] if events else None


def sieve(actions: Any = None, on_unknown: Any = "skip", *hooks: Recorder) -> Sieve:
    return Sieve(actions, on_unknown, Observers(hooks))


REMOVED = entry(operation="thing.remove", id="t1")
UNKNOWN = entry(operation="nobody.knows", id="x")
UNREADABLE = entry(operation="test.sieve.counted", count="many")


def test_an_entry_becomes_an_event_that_knows_where_it_is_from() -> None:
    event = sift(sieve(), REMOVED)
    assert event is not None
    assert (event.action, event.stream, event.id) == (ThingRemoved("t1"), "things", "5-1")
    assert event.raw == ((b"operation", b"thing.remove"), (b"id", b"t1"))


def test_an_unknown_operation_is_skipped_and_told() -> None:
    seen = Recorder()
    sifting = sieve(None, "skip", seen)
    assert sift(sifting, UNKNOWN) is None
    assert (sifting.skipped, sifting.given_up) == (1, 0)
    [details] = seen.of("skipped")
    assert (details.stream, details.id, details.operation) == ("things", "5-1", "nobody.knows")
    assert details.fields == ((b"operation", b"nobody.knows"), (b"id", b"x"))


def test_there_is_one_warning_an_operation_which_names_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    sifting = sieve()
    with caplog.at_level(logging.WARNING):
        for each in (UNKNOWN, UNKNOWN, entry(operation="another"), UNKNOWN, entry(id="no operation")):
            sift(sifting, each)
    assert [record.args for record in caplog.records] == [("nobody.knows",), ("another",), ("",)]
    assert all('on_unknown="yield"' in record.getMessage() for record in caplog.records)
    assert sifting.skipped == 5


def test_of_a_long_operation_only_the_beginning_is_shown_and_remembered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sifting = sieve()
    for end in ("a", "b"):
        assert sift(sifting, entry(operation="x" * 1_000_000 + end)) is None
    [record] = caplog.records
    assert len(record.getMessage()) < 300
    assert sifting.skipped == 2


def test_warnings_of_ever_new_operations_come_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    sifting = sieve()
    with caplog.at_level(logging.WARNING):
        for number in range(MOST_WARNINGS + 10):
            sift(sifting, entry(operation=f"{number:06}" * 200))
    assert len(caplog.records) == MOST_WARNINGS
    assert max(len(record.getMessage()) for record in caplog.records) < 400
    assert sifting.skipped == MOST_WARNINGS + 10


def test_an_unknown_operation_can_be_had() -> None:
    event = sift(sieve(None, "yield"), UNKNOWN)
    assert event is not None
    assert event.action == UnknownAction("nobody.knows", {"id": "x"})


def test_what_does_not_decode_is_given_up_and_told(caplog: pytest.LogCaptureFixture) -> None:
    seen = Recorder()
    sifting = sieve(None, "skip", seen)
    assert sift(sifting, UNREADABLE) is None
    assert (sifting.skipped, sifting.given_up) == (0, 1)
    [details] = seen.of("skipped")
    assert "count" in details.reason
    assert "many" not in details.reason + caplog.text, "no payload in a message"
    assert "5-1" in caplog.text


def test_where_there_are_dead_letters_decoding_stops_at_what_does_not_decode() -> None:
    seen = Recorder()
    sifting = Sieve([ThingRemoved, SieveCounted], "skip", Observers(seen), dead_letters=True)
    entries = [UNKNOWN, REMOVED, REMOVED, UNKNOWN, UNREADABLE, REMOVED]
    passed, events, unreadable, ends = sifting.sift("things", Entries.of(entries))
    assert (passed, len(events), unreadable, list(ends)) == (1, 2, None, [2, 4])
    passed, events, unreadable, ends = sifting.sift("things", Entries.of([UNKNOWN, *entries[4:]]))
    assert (passed, events, list(ends)) == (1, [], [2])
    assert isinstance(unreadable, DecodeError)
    assert (unreadable.stream, unreadable.id, unreadable.field) == ("things", "5-1", "count")
    assert (sifting.skipped, sifting.given_up) == (3, 0)
    assert {details.operation for details in seen.of("skipped")} <= {"nobody.knows"}


def test_only_the_actions_that_were_asked_for_are_decoded() -> None:
    sifting = sieve([OrgCreated])
    assert sift(sifting, REMOVED) is None
    assert sift(sifting, UNREADABLE) is None, "which does not even decode"
    assert sift(sifting, UNKNOWN) is None
    assert sift(sifting, entry(operation="org.create", id="o1")) is not None
    assert (sifting.skipped, sifting.given_up) == (3, 0)


def test_unknown_operations_come_beside_the_actions_that_were_asked_for() -> None:
    sifting = sieve([OrgCreated], "yield")
    assert sift(sifting, REMOVED) is None
    assert sift(sifting, UNKNOWN) is not None


def test_the_last_operation_of_an_entry_counts_for_the_filter_too() -> None:
    doubled = (
        b"5-1",
        [b"operation", b"org.create", b"operation", b"thing.remove"],
    )
    assert sift(sieve([OrgCreated]), doubled) is None
    assert sift(sieve([ThingRemoved]), doubled) is not None


@given(
    st.lists(
        st.sampled_from(
            [
                REMOVED,
                UNKNOWN,
                UNREADABLE,
                entry(operation="org.create", id="o1"),
                entry(id="o2", operation="org.create"),
                entry(id="operation", operation="org.create"),
                entry(id="t2", operation="thing.remove"),
                (b"5-1", [b"operation", b"thing.remove", b"id", b"\xff"]),
                (b"5-1", [b"operation", b"org.create", b"operation", b"org.create"]),
                (b"5-1", [b"operation", b"org.create", b"operation", b"thing.remove"]),
                (b"5-1", [b"operation", b"org.create", b"operation", b"nobody.knows"]),
            ]
        )
    ),
    st.sampled_from([None, [OrgCreated], [ThingRemoved, SieveCounted]]),
    st.sampled_from(["skip", "yield"]),
)
def test_many_entries_come_to_the_same_as_each_by_itself(
    entries: list[Entry], actions: Any, on_unknown: str
) -> None:
    seen, seen_singly = Recorder(), Recorder()
    together, singly = sieve(actions, on_unknown, seen), sieve(actions, on_unknown, seen_singly)
    found: list[Event | None] = []
    while len(found) < len(entries):
        passed, events, _, ends = together.sift("things", Entries.of(entries[len(found) :]))
        found += [None] * passed
        for event, begins, end in zip(events, [passed, *ends], ends, strict=False):
            found += [event, *[None] * (end - begins - 1)]
    assert found == [sift(singly, entry) for entry in entries]
    assert (together.skipped, together.given_up) == (singly.skipped, singly.given_up)
    assert seen.seen == seen_singly.seen


def test_what_was_not_asked_for_is_passed_over_together_with_what_was() -> None:
    sifting = sieve([OrgCreated])
    created = entry(operation="org.create", id="o1")
    entries = Entries.of([REMOVED, created, REMOVED, REMOVED, created, REMOVED])
    passed, events, _, ends = sifting.sift("things", entries)
    assert (passed, [event.action for event in events], list(ends)) == (1, [OrgCreated("o1")] * 2, [4, 6])
    assert sifting.skipped == 4


@pytest.mark.parametrize("actions", [[Action], [UnknownAction], [int], ["thing.remove"], ThingRemoved, 5])
def test_what_is_no_action_class_is_a_config_error(actions: Any) -> None:
    with pytest.raises(ConfigError, match="actions"):
        sieve(actions)


@pytest.mark.parametrize("on_unknown", ["", "raise", None, ["skip"]])
def test_on_unknown_is_one_of_two(on_unknown: Any) -> None:
    with pytest.raises(ConfigError, match="on_unknown"):
        sieve(None, on_unknown)


@pytest.mark.parametrize("garbled", [None, b"ab", [b"a"], [b"a", None], [b"operation", 7], {b"a": b"b"}])
def test_what_are_no_fields_is_given_up_with_a_report(garbled: Any) -> None:
    seen = Recorder()
    sifting = Sieve(None, "skip", Observers([seen]), dead_letters=True)
    id, fields = REMOVED
    entries = Entries.of([(id, fields), (b"5-2", garbled), (b"5-3", fields)])
    passed, events, *_ = sifting.sift("things", entries)
    assert (passed, len(events)) == (0, 1)
    passed, events, unreadable, _ = sifting.sift("things", entries[1:])
    assert (passed, len(events), unreadable) == (1, 1, None)
    assert sifting.given_up == 1
    [details] = seen.of("skipped")
    assert (details.id, details.fields) == ("5-2", ())
    assert "its fields are no names and values" in details.reason
