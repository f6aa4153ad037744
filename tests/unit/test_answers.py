"""What answers mean, and what is none: a table of well-formed nonsense, held against every kind of answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mainflux_events import answers
from mainflux_events.answers import Group, Member, Stream, Taken
from mainflux_events.entries import Entries
from mainflux_events.refusals import Refusal

ENTRY = [b"5-1", [b"operation", b"thing.remove", b"id", b"t1"]]


def read(reply: Any) -> Any:
    return answers.read(reply, {b"things", b"others"}, "XREAD")


# --- what they mean -------------------------------------------------------------------------------------------------


def pairs(**values: Any) -> list[Any]:
    """Names and values in turn, as XINFO has them."""
    return [part for name, value in values.items() for part in (name.replace("_", "-").encode(), value)]


INFO_6 = pairs(length=1, last_generated_id=b"7-1", groups=0, first_entry=ENTRY, last_entry=ENTRY)
INFO_7 = [*INFO_6, *pairs(entries_added=5, max_deleted_entry_id=b"4-0")]
GROUP_6 = pairs(name=b"mailers", consumers=1, pending=2, last_delivered_id=b"5-1")

MEANINGS: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (read, None, {}),
    (read, [[b"things", [ENTRY, [b"5-2", []]]]], {b"things": Entries([b"5-1", b"5-2"], [ENTRY[1], []])}),
    (answers.fetched, [ENTRY, None], Entries([b"5-1"], [ENTRY[1]])),
    (answers.fetched, [ENTRY], Entries([b"5-1"], [ENTRY[1]])),
    (answers.stream, INFO_6, Stream(1, b"7-1", b"5-1")),
    (answers.stream, INFO_7, Stream(1, b"7-1", b"5-1", 5, b"4-0")),
    (answers.stream, [*INFO_7, b"\xff", 5], Stream(1, b"7-1", b"5-1", 5, b"4-0")),
    (answers.stream, Refusal("ERR no such key"), Stream(0, b"0-0", None, 0)),
    (answers.groups, [GROUP_6], [Group(b"mailers", b"5-1")]),
    (answers.groups, [[*GROUP_6, *pairs(lag=3)]], [Group(b"mailers", b"5-1", 3)]),
    (answers.groups, [[*GROUP_6, *pairs(lag=None)]], [Group(b"mailers", b"5-1")]),
    (answers.members, [pairs(name=b"me", pending=2, idle=30, inactive=-1)], [Member(b"me", 2, 30)]),
    (answers.taken, [b"0-0", [b"5-1"]], Taken(b"0-0", [b"5-1"])),
    (answers.taken, [b"6-0", [], [b"5-1"]], Taken(b"6-0", [], [b"5-1"])),
    (answers.deliveries, [[b"5-1", b"me", 30, 2]], {b"5-1": 2}),
    (answers.oldest, [0, None, None, None], (0, None)),
    (answers.oldest, [2, b"5-1", b"5-2", [[b"me", b"2"]]], (2, b"5-1")),
    (answers.owners, [[b"5-1", b"you"], [b"5-2", b""]], [(b"5-1", b"you"), (b"5-2", b"")]),
    (answers.names, [b"me"], [b"me"]),
    (answers.count, 3, 3),
    (answers.done, b"OK", None),
    (answers.kind, b"stream", "stream"),
    (answers.kind, b"\xff" * 1000, "\ufffd" * 40),
    (answers.stored, b"5-1", b"5-1"),
    (answers.stored, None, None),
    (answers.moved, None, None),
    (answers.moved, b"", b""),
    (answers.moved, b"5-1", b"5-1"),
    (answers.appended, b"5-1", b"5-1"),
    (answers.acknowledged, 0, 0),
    (answers.flag, 1, 1),
    (answers.left, None, None),
    (answers.left, -1, -1),
    (answers.okay, b"OK", b"OK"),
    (answers.found, None, None),
    (answers.found, b"5-1", b"5-1"),
]


@pytest.mark.parametrize(("meaning", "reply", "expected"), MEANINGS)
def test_what_an_answer_means(meaning: Callable[[Any], Any], reply: Any, expected: Any) -> None:
    assert meaning(reply) == expected


# --- what is none ---------------------------------------------------------------------------------------------------

NONSENSE: dict[str, Any] = {
    "nil": None,
    "a number": 7,
    "a string": b"so so",
    "text": "so so",
    "true": True,
    "a fraction": 1.5,
    "an empty array": [],
    "a number in an array": [1],
    "a string in an array": [b"so so"],
    "nil in an array": [None],
    "an error in an array": [Refusal("ERR no")],
    "a number in arrays": [[1]],
    "empty arrays": [[], []],
    "arrays in arrays": [[[[[]]]]],
    "names and values": [b"length", 1, b"name", b"me"],
    "a map": {b"things": [ENTRY]},
    "an empty map": {},
}

# What of that is an answer.
GIVES: dict[Callable[[Any], Any], set[str]] = {
    read: {"nil", "an empty array"},
    answers.fetched: {"an empty array", "nil in an array"},
    answers.stream: set(),
    answers.groups: {"an empty array"},
    answers.members: {"an empty array"},
    answers.taken: set(),
    answers.deliveries: {"an empty array"},
    answers.oldest: set(),
    answers.owners: {"an empty array"},
    answers.names: {"an empty array", "a string in an array"},
    answers.count: {"a number"},
    answers.done: {"a string"},
    answers.kind: {"a string"},
    answers.stored: {"a string", "nil"},
    answers.moved: {"nil"},
    answers.appended: set(),
    answers.acknowledged: {"a number"},
    answers.flag: set(),
    answers.left: {"nil", "a number"},
    answers.okay: {"a string"},
    answers.found: {"a string", "nil"},
}


def refused(meaning: Callable[[Any], Any], reply: Any) -> bool:
    """Whether it is nonsense; any other exception goes through."""
    try:
        found = meaning(reply)
    except Refusal as refusal:
        found = refusal
    return isinstance(found, Refusal) and found.is_nonsense


@pytest.mark.parametrize("meaning", GIVES, ids=lambda meaning: meaning.__name__)
def test_what_is_no_answer_is_refused(meaning: Callable[[Any], Any]) -> None:
    taken = {name for name, reply in NONSENSE.items() if not refused(meaning, reply)}
    assert taken == GIVES[meaning]


def test_every_kind_of_answer_is_in_these_tables() -> None:
    functions = {each for name, each in vars(answers).items() if callable(each) and name.islower()}
    own = {each for each in functions if each.__module__ == answers.__name__ and each.__name__[0] != "_"}
    own.remove(answers.sound)  # part of `read`
    assert own == (GIVES.keys() - {read}) | {answers.read}
    assert {meaning for meaning, *_ in MEANINGS} == GIVES.keys()


@pytest.mark.parametrize("meaning", GIVES, ids=lambda meaning: meaning.__name__)
def test_what_the_server_refuses_stays_what_it_said(meaning: Callable[[Any], Any]) -> None:
    refusal = Refusal("LOADING Redis is loading the dataset in memory")
    try:
        found = meaning(refusal)
    except Refusal as raised:
        found = raised
    assert found is refusal


NO_ENTRIES: dict[str, Any] = {
    "nil": None,
    "a number": 1,
    "a map of them": {b"5-1": [b"a", b"b"]},
    "nil for one": [ENTRY, None],
    "an ID alone": [[b"5-1"]],
    "nil for its fields": [[b"5-1", None]],
    "a string for its fields": [[b"5-1", b"ab"]],
    "a map for its fields": [[b"5-1", {b"a": b"b", b"c": b"d"}]],
    "more than its fields": [[b"5-1", [b"a", b"b"], b"more"]],
    "a name without a value": [ENTRY, [b"5-2", [b"a"]]],
    "nil for a value": [ENTRY, [b"5-2", [b"a", None]]],
    "nil for a name": [[b"5-1", [None, b"a"]]],
    "a number for a value": [[b"5-1", [b"a", 1]]],
    "an array for a value": [[b"5-1", [b"a", [b"b"]]]],
    "an error for a value": [[b"5-1", [b"a", Refusal("ERR no")]]],
    "text for a value": [[b"5-1", [b"a", "b"]]],
    "an ID that is a number": [[5, [b"a", b"b"]]],
    "an ID that is nil": [[None, [b"a", b"b"]]],
    "half an ID": [[b"5", [b"a", b"b"]]],
    "an ID and more": [[b"5-1 6-1", [b"a", b"b"]]],
    "an ID with a line's end": [[b"5-1\n", [b"a", b"b"]]],
    "an ID of letters": [ENTRY, [b"x-y", [b"a", b"b"]], [b"5-3", [b"a", b"b"]]],
    "an empty ID": [[b"", [b"a", b"b"]]],
    "a negative ID": [[b"-5-1", [b"a", b"b"]]],
    "an ID without end": [[b"5" * 1000 + b"-1", [b"a", b"b"]]],
}


@pytest.mark.parametrize("entries", NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_what_are_no_entries_is_refused(entries: Any) -> None:
    assert refused(read, [[b"things", entries]])


@pytest.mark.parametrize(
    "reply",
    [[[b"things", [ENTRY]], [b"foreign", [ENTRY]]], [[b"things"]], [[1, [ENTRY]]], [b"things", [ENTRY]]],
    ids=["of another stream", "of a stream, nothing", "of a number", "not nested"],
)
def test_what_are_no_streams_is_refused(reply: Any) -> None:
    assert refused(read, reply)


WRONG: list[tuple[Callable[[Any], Any], Any]] = [
    (answers.stream, INFO_7[:-1]),
    (answers.stream, INFO_7[2:]),
    *(
        (answers.stream, [*INFO_7, *pairs(**{name: value})])
        for name, value in [
            ("length", b"1"),
            ("last_generated_id", b"seven"),
            ("last_generated_id", None),
            ("first_entry", [b"five", []]),
            ("first_entry", [b"5-1"]),
            ("first_entry", b"5-1"),
            ("entries_added", b"5"),
            ("max_deleted_entry_id", b""),
        ]
    ),
    (answers.groups, [[*GROUP_6, *pairs(last_delivered_id=b"five")]]),
    (answers.groups, [[*GROUP_6, *pairs(lag=b"3")]]),
    (answers.groups, [GROUP_6[2:]]),
    (answers.members, [pairs(name=b"me", pending=b"2", idle=30)]),
    (answers.taken, [b"0", [b"5-1"]]),
    (answers.taken, [b"0-0", [b"five"]]),
    (answers.taken, [b"0-0", [ENTRY]]),
    (answers.taken, [b"0-0", [], [None]]),
    (answers.deliveries, [[b"five", b"me", 30, 2]]),
    (answers.deliveries, [[b"5-1", b"me", 30, b"2"]]),
    (answers.deliveries, [[b"5-1", b"me", 30]]),
    (answers.oldest, [2, None, None, None]),
    (answers.oldest, [2, b"five", b"5-2", []]),
    (answers.owners, [[b"five", b"you"]]),
    (answers.owners, [[b"5-1", None]]),
    (answers.moved, b"five"),
    (answers.appended, b""),
    (answers.flag, 2),
]


@pytest.mark.parametrize(("meaning", "reply"), WRONG)
def test_what_is_nearly_an_answer_is_refused(meaning: Callable[[Any], Any], reply: Any) -> None:
    assert refused(meaning, reply)
