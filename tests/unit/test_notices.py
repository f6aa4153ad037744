from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mainflux_events import ConfigError, Hooks, StreamGap, StreamReset
from mainflux_events.hooks import GapDetails, Observers, ResetDetails
from mainflux_events.notices import Notice, Notices

GAP = GapDetails("things", "5-0", "9-0", 3, True)
RESET = ResetDetails("things", "5-0", "2-0", "0-0")


class Told(Hooks):
    def __init__(self) -> None:
        self.details: list[Any] = []

    def gap(self, details: GapDetails) -> None:
        self.details.append(details)

    def reset(self, details: ResetDetails) -> None:
        self.details.append(details)


@pytest.mark.parametrize(
    ("missed", "exact", "says"),
    [
        (3, True, "3 entries were removed before they were read, of 'things' between 5-0 and 9-0: "),
        (1, True, "1 entry was removed before it was read, of 'things' between 5-0 and 9-0: "),
        (3, False, "at most 3 entries were removed before they were read, of 'things' between 5-0 and 9-0: "),
        (None, False, "entries of 'things' between 5-0 and 9-0 may have been removed before they were read"),
    ],
)
def test_a_gap_says_how_many_are_missing_and_where(missed: int | None, exact: bool, says: str) -> None:
    assert str(StreamGap("things", "5-0", "9-0", missed, exact)).startswith(says)


def test_a_reset_says_how_far_it_was_read_and_where_reading_goes_on() -> None:
    message = str(StreamReset("things", "5-0", "2-0", "1-0"))
    assert message == (
        "the stream 'things' was deleted, recreated or restored: it was read up to 5-0, and ends at 2-0 now; "
        "reading goes on behind 1-0"
    )


def test_what_is_reported_is_counted_and_told_to_the_hooks_and_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told()
    notices = Notices("report", Observers(told))
    unknown = GapDetails("things", "9-0", "12-0", None, False)
    for details in (GAP, unknown, RESET):
        notices.tell(details)
    assert told.details == [GAP, unknown, RESET]
    assert (notices.gaps, notices.missed, notices.resets) == (2, 3, 1)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "stream_gap",
        "stream_gap",
        "stream_reset",
    ]


@pytest.mark.parametrize(("details", "error"), [(GAP, StreamGap), (RESET, StreamReset)])
def test_what_is_raised_is_told_once_and_the_next_attempt_goes_on(
    details: GapDetails | ResetDetails, error: type[Exception]
) -> None:
    told = Told()
    steps: list[str] = []
    go_on: Callable[[], None] = lambda: steps.append("on")  # noqa: E731
    notice = Notice(Notices("raise", Observers(told)), details, go_on)
    with pytest.raises(error):
        notice.deliver()
    assert (told.details, steps) == ([details], [])
    notice.deliver()
    assert (told.details, steps) == ([details], ["on"])


@pytest.mark.parametrize("on_gap", ["ignore", "", None, True])
def test_another_policy_is_refused(on_gap: Any) -> None:
    with pytest.raises(ConfigError, match="on_gap"):
        Notices(on_gap, Observers(()))
