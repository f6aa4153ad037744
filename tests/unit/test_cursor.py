from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events import ConfigError, CursorCorrupt, EmptyName, EmptyStream
from mainflux_events.cursor import (
    Cursor,
    check_start,
    checked_name,
    checked_streams,
    padded,
    parse_id,
    resolve_start,
    stored_cursor,
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


def whispered(cursor: Cursor, *ids: str) -> None:
    for id in ids:
        cursor.finish(id.encode())
        cursor.whisper()


def test_a_commit_without_an_answer_expects_the_one_before_it_and_asks_for_silence() -> None:
    cursor = attached()
    sent(cursor, "2-0")
    cursor.finish(b"3-0")
    silence, commit = cursor.whisper().split(b"*4", 1)[0], cursor.commit(by_text=False)
    assert b"SKIP" in silence
    assert b"SKIP" not in commit
    assert expected(commit) == b"3-0"


def test_the_next_answer_is_for_all_that_had_none() -> None:
    cursor = attached()
    sent(cursor, "2-0")
    assert cursor.answered(None) is None
    whispered(cursor, "3-0", "4-0")
    assert not cursor.due
    assert not cursor.settled
    sent(cursor, "5-0")
    whispered(cursor, "6-0")
    assert cursor.answered(None) is None
    assert not cursor.settled
    cursor.commit(by_text=False)
    assert cursor.answered(None) is None
    assert cursor.settled


@pytest.mark.parametrize(("found", "told"), [("2-0", None), ("3-0", None), ("4-0", "4-0"), ("3-5", "3-5")])
def test_what_is_found_after_some_that_did_nothing_is_the_last_that_did_or_somebody_elses(
    found: str, told: str | None
) -> None:
    cursor = attached()
    sent(cursor, "2-0")
    cursor.answered(None)
    whispered(cursor, "3-0")
    sent(cursor, "4-0")
    assert cursor.answered(found.encode()) == told
    assert cursor.settled


def test_what_was_stored_without_an_answer_before_a_refusal_is_no_conflict() -> None:
    cursor = attached()
    whispered(cursor, "2-0", "3-0")
    sent(cursor, "4-0")
    assert cursor.answered(Refusal("NOSCRIPT No matching script")) is None
    assert cursor.due
    cursor.commit(by_text=True)
    assert cursor.answered(b"2-0") is None
    assert cursor.settled


def test_what_was_stored_without_an_answer_before_a_refusal_is_no_conflict_on_another_connection_either() -> (
    None
):
    cursor = attached()
    whispered(cursor, "2-0", "3-0")
    sent(cursor, "4-0")
    cursor.answered(Refusal("READONLY You can't write against a read only replica."))
    assert cursor.reattach("2-0") is None
    assert cursor.due


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


def test_it_is_not_behind_what_it_stored_itself_of_a_stream_that_is_another_one_now() -> None:
    cursor = Cursor("audit", "things")
    cursor.attach("5-0")
    cursor.go_back("0-0")
    assert not cursor.is_behind(b"5-0")
    assert cursor.is_behind(b"6-0")


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


# --- with a dead letter ---------------------------------------------------------------------------------------------


def test_a_step_expects_what_is_stored_and_moves_the_cursor() -> None:
    cursor = attached()
    step = cursor.step(b"2-0")
    assert step.keys == (cursor.key,)
    assert step.arguments == (b"1-0", b"2-0")
    assert cursor.stepped(None, again=False) == (True, None)
    assert (cursor.handled, cursor.settled) == ("2-0", True)
    cursor.finish(b"3-0")
    assert expected(cursor.commit(by_text=False)) == b"2-0"


def test_a_step_whose_answer_was_lost_is_known_by_what_it_left() -> None:
    cursor = attached()
    cursor.step(b"2-0")
    assert cursor.stepped(b"2-0", again=True) == (True, None)
    assert cursor.settled


def test_a_step_that_was_cancelled_and_is_made_again_is_known_too() -> None:
    cursor = attached()
    cursor.step(b"2-0")
    cursor.step(b"2-0")
    assert cursor.stepped(b"2-0", again=False) == (True, None)


def test_a_step_that_was_cancelled_and_arrived_is_no_conflict_with_the_commit_that_comes_instead() -> None:
    cursor = attached()
    cursor.step(b"2-0")
    sent(cursor, "2-0")
    assert cursor.answered(b"2-0") is None
    assert cursor.settled


def test_a_step_after_a_cancelled_one_that_arrived_does_not_expect_it() -> None:
    # It would be made again then, and append a second dead letter.
    cursor = attached()
    cursor.step(b"2-0")
    assert cursor.reattach("2-0") is None
    assert cursor.step(b"2-0").arguments == (b"0-0", b"2-0")


@pytest.mark.parametrize("found", ["2-0", "900-0"])
def test_a_step_is_not_made_where_somebody_else_has_passed_the_entry(found: str) -> None:
    cursor = attached()
    cursor.step(b"2-0")
    done, _ = cursor.stepped(found.encode(), again=False)
    assert not done
    assert (cursor.handled, cursor.settled) == ("2-0", True)


def test_somebody_ahead_is_told() -> None:
    cursor = attached()
    cursor.step(b"2-0")
    assert cursor.stepped(b"900-0", again=True) == (False, "900-0")


@pytest.mark.parametrize("found", ["", "1-5"])
def test_a_step_is_made_from_where_somebody_else_was_and_told(found: str) -> None:
    cursor = attached()
    cursor.step(b"2-0")
    assert cursor.stepped(found.encode(), again=False) == (True, found)
    assert cursor.settled


# --- going back -----------------------------------------------------------------------------------------------------


def test_a_cursor_that_goes_back_replaces_what_it_has_stored_itself() -> None:
    cursor = attached("9-0")
    cursor.go_back("0-0")
    assert cursor.due
    assert expected(cursor.commit(by_text=False)) == b"9-0"
    assert cursor.answered(None) is None
    assert (cursor.handled, cursor.settled) == ("0-0", True)


def test_a_cursor_goes_back_behind_commits_that_are_not_answered_yet() -> None:
    cursor = attached("8-0")
    sent(cursor, "9-0")
    cursor.go_back("0-0")
    assert expected(cursor.commit(by_text=False)) == b"9-0"
    cursor.answered(None)
    cursor.answered(None)
    assert cursor.settled


def test_where_a_commit_on_the_way_was_refused_the_cursor_goes_back_from_what_is_stored() -> None:
    cursor = attached("8-0")
    sent(cursor, "9-0")
    cursor.go_back("0-0")
    cursor.commit(by_text=False)
    cursor.answered(Refusal("OOM command not allowed"))
    assert cursor.answered(b"8-0") is None, "which is its own"
    assert cursor.due
    assert expected(cursor.commit(by_text=False)) == b"8-0"


def test_a_cursor_that_could_not_go_back_at_once_goes_back_later() -> None:
    cursor = attached("8-0")
    sent(cursor, "9-0")
    cursor.go_back("0-0")
    cursor.commit(by_text=False)
    cursor.answered(None)
    cursor.answered(Refusal("OOM command not allowed"))
    assert cursor.due
    assert expected(cursor.commit(by_text=False)) == b"9-0"


def test_a_cursor_goes_back_over_a_lost_connection() -> None:
    cursor = attached("8-0")
    sent(cursor, "9-0")
    cursor.go_back("0-0")
    cursor.commit(by_text=False)
    assert cursor.reattach("9-0") is None
    assert cursor.due
    assert expected(cursor.commit(by_text=False)) == b"9-0"


def test_that_the_cursor_went_away_with_the_stream_is_nobody_elses_doing() -> None:
    cursor = attached("9-0")
    cursor.go_back("0-0")
    cursor.commit(by_text=False)
    assert cursor.answered(b"") is None


def test_a_cursor_at_the_beginning_is_stored_again_where_it_goes_back_to_it() -> None:
    cursor = attached("0-0")
    cursor.go_back("0-0")
    assert cursor.due


def test_once_it_went_back_a_cursor_that_is_ahead_is_somebody_elses() -> None:
    cursor = attached("9-0")
    cursor.go_back("0-0")
    cursor.commit(by_text=False)
    cursor.answered(None)
    sent(cursor, "1-0")
    assert cursor.answered(b"9-0") == "9-0"
    cursor.finish(b"2-0")
    assert expected(cursor.commit(by_text=False)) == b"0-0", "it is left alone"


def test_a_commit_of_the_stream_before_that_arrives_late_is_replaced_again() -> None:
    cursor = attached("8-0")
    sent(cursor, "9-0")
    cursor.reattach("8-0")  # the connection was lost, and 9-0 with it, or so it seems
    cursor.go_back("0-0")
    cursor.commit(by_text=False)
    cursor.answered(None)
    sent(cursor, "1-0")
    assert cursor.answered(b"9-0") is None
    assert cursor.due
    assert expected(cursor.commit(by_text=False)) == b"9-0"
