"""A batch as commands, and every shape that its replies can take."""

from __future__ import annotations

import pytest

from mainflux_events.batch import NONSENSE, Transactions, Verdict
from mainflux_events.refusals import Refusal
from mainflux_events.resp import command

OOM = Refusal("OOM command not allowed when used memory > 'maxmemory'.")
TOO_LARGE = Refusal("ERR Elements are too large to be stored")
BAD_BULK = Refusal("ERR Protocol error: invalid bulk length")
NOPERM = Refusal("NOPERM User x has no permissions to run the 'multi' command")
ABORTED = Refusal("EXECABORT Transaction discarded because of previous errors.")
QUEUED = b"QUEUED"

TRANSACTIONS = Transactions("things", None)


def test_one_event_goes_alone() -> None:
    assert TRANSACTIONS.payload([b"one"]) == (b"one", 1)


def test_several_go_in_one_transaction() -> None:
    assert TRANSACTIONS.payload([b"one", b"two"]) == (
        command("MULTI") + b"one" + b"two" + command("EXEC"),
        4,
    )


@pytest.mark.parametrize(
    ("what", "events", "replies", "expected"),
    [
        ("one applied", 1, [b"1-0"], Verdict([b"1-0"])),
        ("one refused for now", 1, [OOM], Verdict([], OOM)),
        ("one refused for good", 1, [TOO_LARGE], Verdict([], TOO_LARGE, 0)),
        ("one unanswered", 1, [], Verdict([])),
        ("all applied", 2, [b"OK", QUEUED, QUEUED, [b"1-0", b"2-0"]], Verdict([b"1-0", b"2-0"])),
        ("refused while queued", 2, [b"OK", OOM, OOM, ABORTED], Verdict((), OOM)),
        ("refused in the middle", 3, [b"OK", QUEUED, OOM, OOM, ABORTED], Verdict((), OOM)),
        ("the second is poison", 2, [b"OK", QUEUED, TOO_LARGE, ABORTED], Verdict((), TOO_LARGE, 1)),
        ("poison ends the connection", 3, [b"OK", QUEUED, BAD_BULK], Verdict((), BAD_BULK, 1)),
        ("a passing refusal before poison", 2, [b"OK", OOM, TOO_LARGE, ABORTED], Verdict((), OOM)),
        ("only the execution is refused", 2, [b"OK", QUEUED, QUEUED, OOM], Verdict((), OOM)),
        ("a refused execution poisons nothing", 2, [b"OK", QUEUED, QUEUED, TOO_LARGE], Verdict((), TOO_LARGE)),
        ("refused when executed", 2, [b"OK", QUEUED, QUEUED, [b"1-0", OOM]], Verdict([b"1-0"], OOM)),
        ("poison when executed", 2, [b"OK", QUEUED, QUEUED, [b"1-0", TOO_LARGE]], Verdict([b"1-0"], TOO_LARGE, 1)),
        ("no transaction, all applied", 2, [NOPERM, b"1-0", b"2-0", ABORTED], Verdict([b"1-0", b"2-0"])),
        ("no transaction, none applied", 2, [NOPERM, OOM, OOM, ABORTED], Verdict([], OOM)),
        ("no transaction, and then cut off", 2, [NOPERM, b"1-0"], Verdict([b"1-0"])),
        ("refused and cut off", 2, [NOPERM], Verdict((), NOPERM)),
        ("cut off before any reply", 2, [], Verdict(())),
        ("cut off while queued", 2, [b"OK", QUEUED], Verdict(())),
        ("cut off before the result", 2, [b"OK", QUEUED, QUEUED], Verdict(())),
        ("no ID", 1, [5], Verdict([], NONSENSE)),
        ("an ID and no ID", 2, [b"OK", QUEUED, QUEUED, [b"1-0", None]], Verdict([b"1-0"], NONSENSE)),
        ("too few IDs", 2, [b"OK", QUEUED, QUEUED, [b"1-0"]], Verdict((), NONSENSE)),
        ("too many IDs", 2, [b"OK", QUEUED, QUEUED, [b"1-0", b"2-0", b"3-0"]], Verdict((), NONSENSE)),
        ("no result", 2, [b"OK", QUEUED, QUEUED, None], Verdict((), NONSENSE)),
        ("something else", 2, [b"OK", b"OK", b"OK", b"OK"], Verdict((), NONSENSE)),
    ],
)  # fmt: skip
def test_replies_say_what_became_of_the_events(
    what: str, events: int, replies: list[object], expected: Verdict
) -> None:
    found = TRANSACTIONS.verdict(events, replies)  # type: ignore[arg-type]
    assert (list(found.acknowledged), found.refusal, found.poison) == (
        list(expected.acknowledged),
        expected.refusal,
        expected.poison,
    ), what
