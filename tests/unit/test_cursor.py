from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events import ConfigError, CursorCorrupt, EmptyName, EmptyStream
from mainflux_events.cursor import (
    Cursor,
    Lag,
    check_start,
    checked_name,
    checked_streams,
    lag,
    padded,
    parse_id,
    resolve_start,
    stored_cursor,
    stream_info,
)
from mainflux_events.refusals import Refusal
from mainflux_events.resp import bulk_strings

LARGEST = 2**64 - 1
NOW = datetime(2026, 6, 26, 8, 0, 0, 123_456, tzinfo=UTC)
NOW_MS = 1_782_460_800_123


# --- IDs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "numbers"),
    [
        ("0-0", (0, 0)),
        ("1526919030474-55", (1526919030474, 55)),
        (f"{LARGEST}-{LARGEST}", (LARGEST, LARGEST)),
    ],
)
def test_an_id_is_two_numbers(id: str, numbers: tuple[int, int]) -> None:
    assert parse_id(id) == numbers


@pytest.mark.parametrize(
    "id",
    [
        "",
        "$",
        "+",
        "-",
        "5",
        "5-",
        "-5",
        "5-1-1",
        " 5-1",
        "5-1\n",
        "5-x",
        "\u0665-1",
        f"{LARGEST + 1}-0",
        f"0-{LARGEST + 1}",
    ],
)
def test_what_is_no_whole_id_is_none(id: str) -> None:
    assert parse_id(id) is None


numbers = st.integers(0, LARGEST)
ids = st.tuples(numbers, numbers)


@given(ids, ids)
def test_padded_ids_compare_as_their_numbers(one: tuple[int, int], other: tuple[int, int]) -> None:
    # 2**53 and 2**53 + 1 are the same number to Lua: hence strings.
    first, second = (padded(f"{ms}-{sequence}") for ms, sequence in (one, other))
    assert (first < second) == (one < other)
    assert len(first) == len(second) == 40


# --- arguments ------------------------------------------------------------------------------------------------------


def test_one_stream_or_several() -> None:
    assert checked_streams("a") == ("a",)
    assert checked_streams(["a", "b"]) == ("a", "b")
    assert checked_streams(each for each in "ab") == ("a", "b")


@pytest.mark.parametrize("streams", ["", [], [""], ["a", ""]])
def test_an_empty_stream_is_refused(streams: Any) -> None:
    with pytest.raises(EmptyStream):
        checked_streams(streams)


@pytest.mark.parametrize("streams", [["a", "a"], None, 5, b"a", [b"a"], ["a", 5], "\ud800"])
def test_what_names_no_streams_is_a_config_error(streams: Any) -> None:
    with pytest.raises(ConfigError, match="stream"):
        checked_streams(streams)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(EmptyName):
        checked_name("")


@pytest.mark.parametrize("name", ["a:b", ":", "\udc80", 5, b"a"])
def test_a_name_that_makes_no_key_is_a_config_error(name: Any) -> None:
    # With a colon, ("a:b", "c") and ("a", "b:c") would share the key mainflux:cursor:a:b:c.
    with pytest.raises(ConfigError, match="name"):
        checked_name(name)


# --- where to begin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "cursor"),
    [
        ("new", "77-7"),
        ("earliest", "0-0"),
        ("5-1", "5-1"),
        # The first entry of the millisecond of the datetime is to be read, so all of the one before is passed.
        (NOW, f"{NOW_MS - 1}-{LARGEST}"),
        (NOW.astimezone(timezone(timedelta(hours=5))), f"{NOW_MS - 1}-{LARGEST}"),
        (timedelta(seconds=1), f"{NOW_MS - 1001}-{LARGEST}"),
        (timedelta(0), f"{NOW_MS - 1}-{LARGEST}"),
        # Before there were IDs.
        (datetime(1970, 1, 1, tzinfo=UTC), "0-0"),
        (datetime(1969, 12, 31, tzinfo=UTC), "0-0"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "0-0"),
        (timedelta.max, "0-0"),
        (datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC), f"0-{LARGEST}"),
    ],
)
def test_start_comes_to_the_id_after_which_reading_begins(start: Any, cursor: str) -> None:
    check_start(start)
    assert resolve_start(start, "77-7", NOW) == cursor


@pytest.mark.parametrize(
    "start",
    [
        "",
        "$",
        "5",
        "newest",
        f"{LARGEST + 1}-0",
        0,
        None,
        datetime(2026, 1, 1),  # noqa: DTZ001 - a naive time is what is refused
        timedelta(microseconds=-1),
    ],
)
def test_what_is_no_place_to_begin_at_is_a_config_error(start: Any) -> None:
    with pytest.raises(ConfigError, match="start"):
        check_start(start)


# --- what is stored -------------------------------------------------------------------------------------------------


def test_a_stored_cursor_is_an_id_or_nothing() -> None:
    assert stored_cursor("key", None) is None
    assert stored_cursor("key", b"5-1") == "5-1"


@pytest.mark.parametrize(
    "stored",
    [b"", b"$", b"+", b"5", b"gar\xffbage", f"{LARGEST + 1}-0".encode(), Refusal("WRONGTYPE Operation")],
)
def test_anything_else_is_corrupt(stored: Any) -> None:
    with pytest.raises(CursorCorrupt, match="'key'"):
        stored_cursor("key", stored)


def test_another_refusal_is_not_a_corrupt_cursor() -> None:
    with pytest.raises(Refusal, match="LOADING"):
        stored_cursor("key", Refusal("LOADING Redis is loading"))


# --- commits --------------------------------------------------------------------------------------------------------


def attached(id: str = "1-0") -> Cursor:
    cursor = Cursor("audit", "things")
    cursor.attach(id)
    return cursor


def sent(cursor: Cursor, *ids: str) -> None:
    for id in ids:
        cursor.finish(id.encode())
        cursor.commit(by_text=False)


def expected(command: bytes) -> bytes:
    """What a commit expects to find: the last argument but one."""
    return command.split(b"\r\n")[-4]


def test_a_new_cursor_is_settled() -> None:
    cursor = attached()
    assert (cursor.key, cursor.due, cursor.settled) == ("mainflux:cursor:audit:things", False, True)


def test_a_finished_entry_is_due_until_it_is_sent_and_settled_when_it_is_answered() -> None:
    cursor = attached()
    cursor.finish(b"2-0")
    assert (cursor.due, cursor.settled) == (True, False)
    cursor.commit(by_text=False)
    assert (cursor.due, cursor.settled) == (False, False)
    assert cursor.answered(None) is None
    assert (cursor.due, cursor.settled) == (False, True)


def test_each_commit_expects_the_one_before_it() -> None:
    cursor = attached()
    cursor.finish(b"2-0")
    assert expected(cursor.commit(by_text=False)) == b"1-0"
    cursor.finish(b"3-0")
    assert expected(cursor.commit(by_text=False)) == b"2-0"


def test_only_the_first_commit_expects_nothing() -> None:
    # "Nothing" leaves alone whatever is there: right where two boot together, wrong for a cursor that was deleted.
    cursor = Cursor("audit", "things")
    assert expected(cursor.first_commit("1-0")) == b""
    cursor.attach("1-0")
    cursor.finish(b"2-0")
    cursor.reattach(None)
    assert expected(cursor.commit(by_text=False)) == b"0-0"


@pytest.mark.parametrize("found", ["3-0", "1-1", "", "900-0"])
def test_what_somebody_else_stored_is_told_once(found: str) -> None:
    cursor = attached()
    sent(cursor, "2-0", "2-1")
    assert cursor.answered(found.encode()) == found
    cursor.answered(found.encode())
    assert cursor.settled
    sent(cursor, "2-2")
    after = None if padded(found) < padded("2-2") else found.encode()
    assert cursor.answered(after) is None


def test_what_this_subscriber_stored_itself_is_no_conflict() -> None:
    cursor = attached()
    sent(cursor, "2-0", "3-0")
    assert cursor.answered(Refusal("OOM command not allowed")) is None
    assert cursor.answered(b"1-0") is None, "the refused one left what was there before"
    assert cursor.settled


def test_a_refused_commit_is_due_again() -> None:
    cursor = attached()
    sent(cursor, "2-0")
    cursor.answered(Refusal("OOM command not allowed"))
    assert cursor.due
    assert expected(cursor.commit(by_text=False)) == b"1-0"


def test_a_fenced_commit_names_the_lease_and_its_token() -> None:
    cursor = Cursor("audit", "things")
    cursor.attach("1-0")
    cursor.fence("lease", "token")
    cursor.finish(b"2-0")
    packed = cursor.commit(by_text=True)
    assert packed.startswith(b"*8\r\n")
    words = bulk_strings(packed, packed.index(b"\r\n") + 2)
    assert words[2:] == [b"2", cursor.key.encode(), b"lease", b"1-0", b"2-0", b"token"]


@pytest.mark.parametrize(
    ("stored", "behind"),
    [
        (b"2-0", False),
        (b"1-9", False),
        (b"2-1", True),
        (b"10-0", True),
        (None, False),
        (b"garbage", False),
        (Refusal("WRONGTYPE Operation against a key holding the wrong kind of value"), False),
    ],
)
def test_it_is_behind_where_more_is_stored_than_is_handled_here(stored: Any, behind: bool) -> None:
    cursor = Cursor("audit", "things")
    cursor.attach("1-0")
    cursor.finish(b"2-0")
    assert cursor.is_behind(stored) == behind


def test_one_that_does_not_know_yet_where_to_begin_is_not_behind() -> None:
    assert not Cursor("audit", "things").is_behind(b"5-0")


def test_after_a_new_connection_what_is_stored_tells_which_commits_arrived() -> None:
    cursor = attached()
    sent(cursor, "2-0", "3-0")
    assert cursor.reattach("2-0") is None
    assert cursor.due
    assert expected(cursor.commit(by_text=False)) == b"2-0"


def test_after_a_new_connection_a_commit_that_arrived_is_settled() -> None:
    cursor = attached()
    sent(cursor, "2-0", "3-0")
    assert cursor.reattach("3-0") is None
    assert cursor.settled


@pytest.mark.parametrize("found", [None, "1-5", "900-0"])
def test_after_a_new_connection_somebody_elses_cursor_is_told(found: str | None) -> None:
    cursor = attached()
    sent(cursor, "2-0")
    assert cursor.reattach(found) == (found or "")
    assert cursor.due is (found != "900-0"), "one that is ahead is never moved back"


# --- lag ------------------------------------------------------------------------------------------------------------


def info(
    first: int, last: int, length: int, added: int | None = None, deleted: str = "0-0"
) -> dict[str, Any]:
    """What XINFO STREAM says of entries with the IDs first-0 to last-0; ``added`` is None before Redis 7.0."""
    counted = {} if added is None else {"entries-added": added, "max-deleted-entry-id": deleted.encode()}
    entry = [f"{first}-0".encode(), []] if length else None
    return {"length": length, "last-generated-id": f"{last}-0".encode(), "first-entry": entry} | counted


def finish(cursor: Cursor, *milliseconds: int) -> None:
    for each in milliseconds:
        cursor.finish(b"%d-0" % each)


@pytest.mark.parametrize("added", [None, 10])
def test_both_ends_of_the_stream_are_told_by_every_server(added: int | None) -> None:
    assert lag(attached("0-0"), info(1000, 10_000, 10, added)) == Lag(10, 9.0)
    assert lag(attached("10000-0"), info(1000, 10_000, 10, added)) == Lag(0, 0.0)
    assert lag(attached("0-0"), info(0, 0, 0, added)) == Lag(0, 0.0)


@pytest.mark.parametrize("added", [None, 10])
def test_the_middle_of_a_stream_never_read_from_its_end_cannot_be_told(added: int | None) -> None:
    assert lag(attached("5000-0"), info(1000, 10_000, 10, added)) == Lag(None, 5.0)


def test_from_a_place_that_was_told_entries_are_counted() -> None:
    cursor = attached("0-0")
    lag(cursor, info(1, 10, 10, 10))
    finish(cursor, 1, 2, 3)
    assert lag(cursor, info(1, 12, 12, 12)).entries == 9


def test_counting_goes_on_where_handled_entries_are_trimmed() -> None:
    cursor = attached("10-0")
    lag(cursor, info(1, 10, 10, 10))
    finish(cursor, 11, 12)
    assert lag(cursor, info(9, 20, 12, 20)).entries == 8
    finish(cursor, 13)
    assert lag(cursor, info(12, 21, 10, 21)).entries == 8


def test_a_count_that_trimming_may_have_made_wrong_is_not_given() -> None:
    cursor = attached("10-0")
    lag(cursor, info(1, 10, 10, 10))
    # Of 30 entries the first 15 are gone: 11 to 15 perhaps before they were read.
    finish(cursor, 16)
    assert lag(cursor, info(16, 30, 15, 30)).entries is None


def test_a_count_that_a_deletion_may_have_made_wrong_is_not_given() -> None:
    cursor = attached("10-0")
    lag(cursor, info(1, 10, 10, 10))
    finish(cursor, 11)
    assert lag(cursor, info(1, 20, 19, 20, deleted="15-0")).entries is None


def test_another_stream_under_the_same_key_is_not_counted() -> None:
    cursor = attached("10-0")
    lag(cursor, info(1, 10, 10, 10))
    finish(cursor, 11)
    assert lag(cursor, info(5, 20, 3, 3)).entries is None


def test_a_stream_that_is_not_there_is_empty() -> None:
    assert lag(attached("0-0"), stream_info(Refusal("ERR no such key"))) == Lag(0, 0.0)


def test_what_the_server_says_of_a_stream_is_read_by_its_names() -> None:
    assert stream_info([b"length", 3, b"first-entry", None]) == {"length": 3, "first-entry": None}
    with pytest.raises(Refusal, match="NOPERM"):
        stream_info(Refusal("NOPERM no permission"))
