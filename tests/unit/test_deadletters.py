"""What is in a dead letter, and that the entry comes out of it again as it went in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events import Action, DecodeError, ThingRemoved
from mainflux_events.deadletters import MOST_BYTES, DeadLetter, Step, append, dead_letter, opened
from mainflux_events.resp import bulk_strings


class LettersCounted(Action, tag="test.letters.counted"):
    count: int


ENTRY = [b"operation", b"thing.remove", b"id", b"t1", b"evt_org_id", b"o1"]


def letter(entry: list[bytes] = ENTRY, error: BaseException | None = None, attempts: int = 2) -> list[bytes]:
    error = ZeroDivisionError("no") if error is None else error
    return dead_letter(entry, "things", b"5-1", error, attempts, "audit")


def about(fields: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def words(packed: bytes) -> list[bytes]:
    return bulk_strings(packed, packed.index(b"\r\n") + 2)


# --- its fields -----------------------------------------------------------------------------------------------------


def test_the_entry_stands_first_and_then_what_is_needed_to_understand_it() -> None:
    before = datetime.now(UTC)
    fields = letter()
    assert fields[: len(ENTRY)] == ENTRY
    told = about(fields[len(ENTRY) :])
    time = told.pop(b"dlq_time")
    assert told == {
        b"dlq_stream": b"things",
        b"dlq_id": b"5-1",
        b"dlq_operation": b"thing.remove",
        b"dlq_error_type": b"ZeroDivisionError",
        b"dlq_error": b"no",
        b"dlq_attempts": b"2",
        b"dlq_consumer": b"audit",
    }
    assert before <= datetime.fromisoformat(time.decode()) <= datetime.now(UTC)


def test_a_class_that_is_not_built_in_is_named_with_its_module() -> None:
    class Refused(Exception):
        pass

    refused = about(letter(error=Refused()))[b"dlq_error_type"].decode()
    assert refused == f"{__name__}.{Refused.__qualname__}"


@pytest.mark.parametrize("text", ["x" * 5000, "é" * 5000, "a" + "é" * 5000, "😀" * 5000, "ab" + "😀" * 5000])
def test_a_long_text_of_an_error_is_cut_at_a_character(text: str) -> None:
    written = about(letter(error=RuntimeError(text)))[b"dlq_error"]
    assert text.startswith(written.decode())
    assert MOST_BYTES - 4 < len(written) <= MOST_BYTES


def test_a_text_that_is_no_unicode_can_be_written() -> None:
    assert about(letter(error=RuntimeError("\udcff and \ud800")))[b"dlq_error"] == b"\\udcff and \\ud800"


def test_an_error_without_a_text_can_be_written() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise KeyError("nothing to say")

    assert about(letter(error=Unprintable()))[b"dlq_error"] == b"its text could not be had: KeyError"


def test_a_long_operation_is_cut() -> None:
    fields = letter([b"operation", b"o" * 5000])
    assert fields[1] == b"o" * 5000
    assert about(fields[2:])[b"dlq_operation"] == b"o" * MOST_BYTES


# --- opened again ---------------------------------------------------------------------------------------------------


def test_what_was_put_in_comes_out() -> None:
    found = opened(b"9-0", letter(attempts=3))
    assert found.time is not None
    assert found == DeadLetter(
        id="9-0",
        stream="things",
        source_id="5-1",
        operation="thing.remove",
        error_type="ZeroDivisionError",
        error="no",
        attempts=3,
        consumer="audit",
        time=found.time,
        raw=((b"operation", b"thing.remove"), (b"id", b"t1"), (b"evt_org_id", b"o1")),
    )


def test_the_event_knows_the_entry_that_it_was_in_first() -> None:
    event = opened(b"9-0", letter()).event()
    assert (event.action, event.org_id) == (ThingRemoved("t1"), "o1")
    assert (event.stream, event.id) == ("things", "5-1")


def test_an_entry_that_does_not_decode_is_a_decode_error_still() -> None:
    found = opened(b"9-0", letter([b"operation", b"test.letters.counted", b"count", b"many"]))
    with pytest.raises(DecodeError) as caught:
        found.event()
    assert (caught.value.stream, caught.value.id, caught.value.field) == ("things", "5-1", "count")


names = st.sampled_from([b"id", b"operation", b"dlq_stream", b"dlq_id", b"dlq_time", b"\xff", b""])
entries = st.lists(st.tuples(names, st.binary(max_size=5) | names), min_size=1, max_size=8)


@given(entry=entries)
def test_any_entry_comes_out_byte_for_byte(entry: list[tuple[bytes, bytes]]) -> None:
    fields = [part for pair in entry for part in pair]
    assert opened(b"9-0", letter(fields)).raw == tuple(entry)


def test_a_dead_letter_that_dies_again_is_kept_whole() -> None:
    once = letter()
    twice = opened(b"9-0", dead_letter(once, "dead", b"7-0", RuntimeError("again"), 1, "undertaker"))
    assert (twice.stream, twice.source_id, twice.consumer) == ("dead", "7-0", "undertaker")
    again = opened(b"7-0", [part for pair in twice.raw for part in pair])
    assert (again.stream, again.source_id, again.error) == ("things", "5-1", "no")


def test_what_somebody_else_has_appended_is_from_nowhere() -> None:
    found = opened(b"9-0", ENTRY)
    assert found == DeadLetter("9-0", "", "", "", "", "", 0, "", None, opened(b"9-0", letter()).raw)


@pytest.mark.parametrize("attempts", [b"", b"-1", b"many", b"9" * 5000, "٣".encode()])
def test_what_is_no_number_of_attempts_is_none(attempts: bytes) -> None:
    assert opened(b"9-0", [*ENTRY, b"dlq_stream", b"things", b"dlq_attempts", attempts]).attempts == 0


# --- appended -------------------------------------------------------------------------------------------------------


def test_alone_it_is_appended_as_it_is() -> None:
    assert words(append("dead", None, [b"a", b"b"])) == [b"XADD", b"dead", b"*", b"a", b"b"]
    assert words(append("dead", 50, [b"a", b"b"]))[2:6] == [b"MAXLEN", b"~", b"50", b"*"]


def test_with_a_step_its_words_stand_behind_those_of_the_step() -> None:
    step = Step("append() return 5", ("cursor", "more"), (b"1-0", "2-0"), answer=lambda reply: reply)
    name, script, *rest = words(append("dead", 50, [b"a", b"b"], step))
    assert name == b"EVAL"
    assert script.endswith(b"append() return 5")
    assert rest == [
        *(b"3", b"cursor", b"more", b"dead"),
        *(b"1-0", b"2-0"),
        *(b"MAXLEN", b"~", b"50", b"*", b"a", b"b"),
    ]
    assert b"unpack(ARGV, 3)" in script
