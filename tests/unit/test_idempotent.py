"""The sequence of an idempotent publisher: what is sent, and what each answer means for the events in flight."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from mainflux_events import EncodeError, ThingRemoved, wire
from mainflux_events.batch import NONSENSE, Verdict
from mainflux_events.hooks import SequenceLostDetails
from mainflux_events.idempotent import (
    APPEND_SCRIPT,
    CLAIM_SCRIPT,
    KEPT,
    MOST_IDS,
    MOST_VALUES,
    Counted,
    Numbered,
    State,
    sequence_key,
)
from mainflux_events.link import Reply
from mainflux_events.refusals import Refusal
from mainflux_events.resp import bulk

OOM = Refusal("OOM command not allowed when used memory > 'maxmemory'.")
STALE = Refusal("STALE the server does not know the sequence")
NOSCRIPT = Refusal("NOSCRIPT No matching script. Please use EVAL.")
BAD_BULK = Refusal("ERR Protocol error: invalid bulk length")

HEADS = Counted()
BATCH = [wire.encode(ThingRemoved(f"t{number}"), HEADS) for number in range(3)]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def numbered(clock: Clock | None = None) -> Numbered:
    return Numbered("things", 100, clock or Clock())


def words(payload: tuple[bytes, int]) -> list[bytes]:
    """The arguments of what is one whole command with one reply."""
    reader = hiredis.Reader()
    reader.feed(payload[0])
    command: Any = reader.gets()
    assert reader.gets() is False
    assert payload[1] == 1
    assert isinstance(command, list)
    return command


def claimed(clock: Clock | None = None) -> Numbered:
    """One whose first claim is answered."""
    appender = numbered(clock)
    appender.payload(BATCH)
    assert appender.verdict(3, [None]) == Verdict(())
    return appender


def acknowledged(appender: Numbered, count: int = 3) -> Numbered:
    """After a batch of three, of which so many were appended."""
    appender.payload(BATCH)
    appender.verdict(3, [b"1 1 %d 7-0+%d" % (count, count)])
    return appender


def in_doubt(appender: Numbered) -> Numbered:
    """With a batch of three that was not answered, on a new connection, and its claim sent."""
    appender.payload(BATCH)
    assert appender.verdict(3, []) == Verdict(())
    appender.connected()
    assert words(appender.payload(BATCH))[1] == CLAIM_SCRIPT.encode()
    return appender


def lost(appender: Numbered, acknowledged: int, found: int | None, unknown: int) -> SequenceLostDetails:
    return SequenceLostDetails("things", appender.key, acknowledged, found, unknown)


# --- what is sent ---


def test_a_sequence_is_claimed_before_the_first_batch() -> None:
    appender = numbered()
    begin = b"1"
    assert words(appender.payload(BATCH)) == [
        b"EVAL", CLAIM_SCRIPT.encode(), b"1", appender.key.encode(), b"1", b"86400000", begin,
    ]  # fmt: skip


def test_a_batch_is_one_call_that_counts_the_fields_of_each_event() -> None:
    appender = claimed()
    eval_, script, *rest = words(appender.payload(BATCH[:2]))
    assert (eval_, script) == (b"EVAL", APPEND_SCRIPT.encode())
    assert rest[:6] == [b"2", b"things", appender.key.encode(), b"1 1 0", b"86400000", b"100"]
    fields = [HEADS.fields_of(packed) for packed in BATCH[:2]]
    assert rest[6:] == [b"%04d" % len(fields[0]), *fields[0], b"%04d" % len(fields[1]), *fields[1]]


def test_without_a_maximum_nothing_is_trimmed() -> None:
    appender = Numbered("things", None, Clock())
    appender.payload(BATCH)
    appender.verdict(3, [None])
    assert words(appender.payload(BATCH))[7] == b"9223372036854775807"


def test_the_script_is_sent_once_a_connection_and_again_when_it_is_unknown() -> None:
    appender = acknowledged(claimed())
    assert words(appender.payload(BATCH))[0] == b"EVALSHA"
    assert appender.verdict(3, [NOSCRIPT]) == Verdict(())
    assert not appender.in_doubt
    assert words(appender.payload(BATCH))[0] == b"EVAL"
    assert words(appender.payload(BATCH))[0] == b"EVALSHA"
    appender.connected()
    appender.payload(BATCH)
    appender.verdict(3, [b"1 2 3 7-0+3"])
    assert words(appender.payload(BATCH))[0] == b"EVAL"


def test_each_claim_has_a_higher_number_and_the_batch_carries_it() -> None:
    appender = acknowledged(claimed())
    appender.connected()
    assert words(appender.payload(BATCH))[4] == b"2"
    appender.connected()
    assert words(appender.payload(BATCH))[4] == b"3"
    appender.verdict(3, [b"1 2 3 7-0+3"])
    assert words(appender.payload(BATCH))[5] == b"1 3 3"


def test_while_a_batch_is_in_doubt_no_sequence_is_begun() -> None:
    appender = claimed()
    appender.payload(BATCH)
    appender.connected()
    assert words(appender.payload(BATCH))[-1] == b"0"


# --- what the answers mean ---


@pytest.mark.parametrize(
    ("what", "reply", "expected"),
    [
        ("applied", b"1 1 3 7-0+3", Verdict([b"7-0", b"7-1", b"7-2"])),
        ("applied over some ms", b"1 1 3 7-5+1 8-0+2", Verdict([b"7-5", b"8-0", b"8-1"])),
        ("refused", OOM, Verdict([], OOM)),
        ("refused after one", [b"1 1 1 7-0+1", b"OOM command"], Verdict([b"7-0"], Refusal("OOM command"))),
        (
            "poison after one",
            [b"1 1 1 7-0+1", b"ERR Elements are too large"],
            Verdict([b"7-0"], Refusal("ERR Elements are too large"), 1),
        ),
        ("the server does not know the sequence", STALE, Verdict([], STALE)),
    ],
)  # fmt: skip
def test_the_answer_to_a_batch_says_what_became_of_it(what: str, reply: Any, expected: Verdict) -> None:
    appender = claimed()
    appender.payload(BATCH)
    assert appender.in_doubt
    found = appender.verdict(3, [reply])
    assert (list(found.acknowledged), str(found.refusal), found.poison) == (
        list(expected.acknowledged),
        str(expected.refusal),
        expected.poison,
    ), what
    assert not appender.in_doubt


def test_an_argument_that_is_too_long_is_the_longest() -> None:
    appender = claimed()
    long = [HEADS[2] + bulk(b"name") + bulk(b"x" * size) for size in (10, 500, 20)]
    appender.payload(long)
    assert appender.verdict(3, [BAD_BULK]) == Verdict((), BAD_BULK, 1)


def test_a_claim_that_is_refused_is_made_again() -> None:
    appender = numbered()
    appender.payload(BATCH)
    assert appender.verdict(3, [OOM]) == Verdict((), OOM)
    assert words(appender.payload(BATCH))[1] == CLAIM_SCRIPT.encode()


@pytest.mark.parametrize(
    ("what", "found", "acknowledged"),
    [
        ("the batch had arrived", b"1 1 3 7-0+3", [b"7-0", b"7-1", b"7-2"]),
        ("its first event had", b"1 1 1 7-0+1", [b"7-0"]),
        ("it had not", b"1 1 0", []),
    ],
)
def test_the_claim_of_the_next_connection_tells_what_became_of_a_batch(
    what: str, found: bytes, acknowledged: list[bytes]
) -> None:
    appender = in_doubt(claimed())
    assert appender.verdict(3, [found]) == Verdict(acknowledged), what
    assert not appender.in_doubt
    assert words(appender.payload(BATCH))[5] == b"1 2 %d" % len(acknowledged)


def test_a_batch_stays_in_doubt_until_a_claim_is_answered() -> None:
    appender = in_doubt(claimed())
    assert appender.verdict(3, []) == Verdict(())
    assert appender.in_doubt
    appender.connected()
    appender.payload(BATCH)
    assert appender.verdict(3, [OOM]) == Verdict((), OOM)
    assert appender.in_doubt


def test_only_what_was_not_acknowledged_yet_is_acknowledged() -> None:
    appender = in_doubt(acknowledged(claimed()))
    assert appender.verdict(3, [b"1 1 6 9-0+3"]) == Verdict([b"9-0", b"9-1", b"9-2"])
    appender = in_doubt(acknowledged(claimed()))
    assert appender.verdict(3, [b"1 1 3 7-0+3"]) == Verdict([])


# --- sequences that are lost ---


@pytest.mark.parametrize("found", [b"", b"garbage", b"1 1", b"9" * 9000 + b" 1 1", 1, []])
def test_a_claim_is_not_answered_by_what_is_no_sequence(found: Reply) -> None:
    appender = in_doubt(acknowledged(claimed()))
    assert appender.verdict(3, [found]) == Verdict((), NONSENSE)
    assert (appender.in_doubt, appender.epochs) == (True, 0)


def test_of_a_batch_whose_sequence_is_gone_nobody_knows() -> None:
    appender = in_doubt(acknowledged(claimed()))
    assert appender.verdict(3, [None]) == Verdict((), lost=lost(appender, 3, None, 3))
    assert appender.epochs == 1
    # What comes next begins a new one, and that is no other loss.
    begin = words(appender.payload(BATCH))
    assert (begin[4], begin[-1]) == (b"3", b"1")
    assert appender.verdict(3, [None]) == Verdict(())
    assert words(appender.payload(BATCH))[5] == b"3 3 0"
    assert appender.epochs == 1


@pytest.mark.parametrize("appended", [0, 3, 6])
def test_a_sequence_that_a_late_claim_has_begun_is_not_the_one_that_is_gone(appended: int) -> None:
    appender = acknowledged(claimed())
    appender.connected()
    late = words(appender.payload(BATCH))
    assert (late[4], late[6]) == (b"2", b"1")
    appender.connected()
    appender.payload(BATCH)
    appender.verdict(3, [b"1 1 3 7-0+3"])
    in_doubt(appender)
    assert appender.verdict(3, [b"2 2 %d" % appended]) == Verdict((), lost=lost(appender, 3, None, 3))
    assert words(appender.payload(BATCH))[5] == b"2 4 %d" % appended


def test_a_number_that_was_reached_after_a_refusal_is_acknowledged() -> None:
    # A server that has forgotten the claim which made it refuse this batch: a replica that was behind.
    appender = acknowledged(claimed())
    appender.payload(BATCH)
    appender.verdict(3, [STALE])
    appender.payload(BATCH)
    assert appender.verdict(3, [b"1 1 6 9-0+3"]) == Verdict([b"9-0", b"9-1", b"9-2"])


def test_what_is_sent_again_under_other_numbers_is_not_taken_for_what_was_sent_before() -> None:
    appender = in_doubt(acknowledged(claimed()))
    assert appender.verdict(3, [b"1 1 2 7-0+2"]).lost is not None
    appender.connected()
    appender.payload(BATCH)
    assert appender.verdict(3, [b"1 2 5 9-0+3"]) == Verdict((), lost=lost(appender, 2, 5, 0))
    assert words(appender.payload(BATCH))[5] == b"1 3 5"


def test_a_sequence_that_is_gone_with_nothing_in_doubt_makes_nothing_unknown() -> None:
    appender = acknowledged(claimed())
    appender.payload(BATCH)
    assert appender.verdict(3, [STALE]).refusal is STALE
    assert words(appender.payload(BATCH))[1] == CLAIM_SCRIPT.encode()
    assert appender.verdict(3, [None]) == Verdict((), lost=lost(appender, 3, None, 0))
    assert words(appender.payload(BATCH))[5] == b"2 2 0"
    assert appender.epochs == 1


def test_a_server_that_knows_of_less_than_it_acknowledged_has_not_what_came_after() -> None:
    appender = in_doubt(acknowledged(claimed()))
    assert appender.verdict(3, [b"1 1 2 7-0+2"]) == Verdict((), lost=lost(appender, 3, 2, 0))
    assert words(appender.payload(BATCH))[5] == b"1 2 2"
    assert appender.epochs == 1


@pytest.mark.parametrize("found", [b"1 1 7 9-0+4", b"1 1 6", b"1 1 6 9-0+2"])
def test_a_number_that_nobody_can_have_reached_makes_the_batch_unknown(found: bytes) -> None:
    appender = in_doubt(acknowledged(claimed()))
    state = State.of(found)
    assert state is not None
    assert appender.verdict(3, [found]) == Verdict((), lost=lost(appender, 3, state.appended, 3))


def test_a_sequence_that_ran_out_while_idle_is_counted_and_is_no_loss() -> None:
    clock = Clock()
    appender = acknowledged(claimed(clock))
    clock.now += KEPT
    assert words(appender.payload(BATCH))[1] == CLAIM_SCRIPT.encode()
    assert appender.verdict(3, [None]) == Verdict(())
    assert appender.epochs == 1
    assert words(appender.payload(BATCH))[5] == b"2 2 0"


def test_a_sequence_that_is_kept_longer_goes_on() -> None:
    clock = Clock()
    appender = acknowledged(claimed(clock))
    clock.now += KEPT
    appender.payload(BATCH)
    assert appender.verdict(3, [b"1 1 3 7-0+3"]) == Verdict([])
    assert words(appender.payload(BATCH))[5] == b"1 2 3"
    assert appender.epochs == 0


def test_a_batch_in_doubt_for_longer_than_its_sequence_is_kept_is_unknown() -> None:
    clock = Clock()
    appender = in_doubt(acknowledged(claimed(clock)))
    clock.now += 2 * KEPT
    assert appender.verdict(3, [None]) == Verdict((), lost=lost(appender, 3, None, 3))


def test_every_batch_keeps_the_sequence() -> None:
    clock = Clock()
    appender = claimed(clock)
    for number in range(1, 5):
        clock.now += KEPT / 2
        assert words(appender.payload(BATCH))[5] == b"1 1 %d" % (3 * number - 3)
        appender.verdict(3, [b"1 1 %d 7-%d+3" % (3 * number, 3 * number)])


def test_a_server_cannot_make_us_count_without_end() -> None:
    state = State.of(b"1 1 3 7-0+99999999999999999999 8-0+99999999999999999999")
    assert state is not None
    assert len(state.ids) == MOST_IDS
    assert State.of(b"9" * 5000 + b" 1 1") is None


# --- events and keys ---


def test_a_packed_event_gives_its_fields_back() -> None:
    fields = [b"name", b"\r\n$1\r\n"]
    assert HEADS.fields_of(HEADS[2] + b"".join(map(bulk, fields))) == fields


def test_an_event_of_more_fields_than_a_script_takes_is_refused() -> None:
    assert HEADS[MOST_VALUES] == bulk(b"%d" % MOST_VALUES)
    with pytest.raises(
        EncodeError, match=f"it has {MOST_VALUES // 2 + 1} fields, above the {MOST_VALUES // 2}"
    ):
        HEADS[MOST_VALUES + 2]


@pytest.mark.parametrize(
    ("stream", "key"),
    [
        ("things", "mainflux:publisher:x:{things}"),
        ("{app}:things", "mainflux:publisher:x:{app}:things"),
        ("a{b}c{d}", "mainflux:publisher:x:a{b}c{d}"),
        ("{{b}}", "mainflux:publisher:x:{{b}}"),
        ("{open", "mainflux:publisher:x:{{open}"),
        ("žižica", "mainflux:publisher:x:{žižica}"),
    ],
)
def test_the_key_of_a_sequence_has_the_tag_of_its_stream(stream: str, key: str) -> None:
    assert sequence_key("x", stream) == key


@given(stream=st.text("{}a", min_size=1, max_size=6))
def test_a_sequence_is_in_the_slot_of_its_stream_whatever_its_braces(stream: str) -> None:
    assert key_slot(sequence_key("x", stream).encode()) == key_slot(stream.encode())


def test_publishers_have_sequences_of_their_own() -> None:
    assert len({numbered().key for _ in range(100)}) == 100
