"""What a consumer holds: what is renewed, taken over, handed out alone, given up and acknowledged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mainflux_events.answers import Taken
from mainflux_events.entries import Entries
from mainflux_events.groups import Member
from mainflux_events.pending import Fetch, Share
from mainflux_events.refusals import Refusal
from mainflux_events.resp import bulk_strings

NOW = datetime(2026, 6, 26, tzinfo=UTC)
REFUSED = Refusal("READONLY You can't write against a read only replica.")


def ids(*numbers: int) -> list[bytes]:
    return [b"%d-0" % number for number in numbers]


def entries(*numbers: int) -> Entries:
    return Entries.of((id, [b"operation", b"thing.remove"]) for id in ids(*numbers))


def pending(counts: dict[int, int]) -> dict[bytes, int]:
    """How often each entry was delivered."""
    return {b"%d-0" % number: count for number, count in counts.items()}


def words(packed: bytes) -> list[str]:
    """A command's arguments."""
    return [part.decode() for part in bulk_strings(packed, packed.index(b"\r\n") + 2)]


@pytest.fixture
def share() -> Share:
    return Share(Member("things", "mailers", "me"), renew_after=10.0, max_deliveries=4)


def found(share: Share, counts: dict[int, int]) -> None:
    share.found(pending(counts), 0.0, among=ids(*counts))


def fetched(share: Share, most: int = 100) -> list[bytes]:
    """Fetch what is next; gives what there was to fetch."""
    fetch = share.next_fetch(most)
    if fetch is None:
        return []
    share.fetched(fetch, Entries.of((id, []) for id in fetch.ids), 0.0)
    return fetch.ids


def finish(share: Share, *numbers: int) -> bool:
    return share.finish(entries(*numbers).ids)


# --- acknowledgements -----------------------------------------------------------------------------------------------


def test_what_is_finished_is_acknowledged_together_in_any_order(share: Share) -> None:
    share.took(entries(1, 2, 3), 0.0)
    assert not share.due
    finish(share, 3)
    finish(share, 1)
    assert share.due
    assert words(share.acknowledge()) == ["XACK", "things", "mailers", "3-0", "1-0"]
    assert not share.due
    assert not share.settled
    share.answered(2)
    assert share.settled


def test_a_refused_acknowledgement_is_due_again_before_what_came_after_it(share: Share) -> None:
    share.took(entries(1, 2), 0.0)
    finish(share, 1)
    share.acknowledge()
    finish(share, 2)
    share.answered(REFUSED)
    assert share.unacknowledged == ids(1, 2)
    assert words(share.acknowledge())[3:] == ["1-0", "2-0"]


def test_after_a_new_connection_what_was_not_answered_is_due_again(share: Share) -> None:
    share.took(entries(1, 2, 3), 0.0)
    finish(share, 1)
    share.acknowledge()
    finish(share, 2)
    share.acknowledge()
    finish(share, 3)
    share.reattach()
    assert words(share.acknowledge())[3:] == ["1-0", "2-0", "3-0"]
    share.answered(3)
    assert share.settled


def test_what_is_not_held_is_not_acknowledged(share: Share) -> None:
    share.took(entries(1), 0.0)
    finish(share, 1, 2)
    finish(share, 1)
    assert share.unacknowledged == ids(1)


# --- renewal --------------------------------------------------------------------------------------------------------


def test_what_is_held_for_a_while_is_renewed_in_the_order_of_the_stream(share: Share) -> None:
    share.took(entries(9, 10), 0.0)
    share.took(entries(11), 5.0)
    found(share, {2: 1})
    assert share.renewals(9.9) == []
    assert share.renewals(10.0) == [ids(2, 9, 10)]
    share.renewed(ids(2, 9, 10), [], 10.0)
    assert share.renewals(15.0) == [ids(11)]


def test_what_is_finished_is_renewed_no_more(share: Share) -> None:
    share.took(entries(1, 2), 0.0)
    finish(share, 1)
    assert share.renewals(10.0) == [ids(2)]


def test_much_is_renewed_in_bundles(share: Share) -> None:
    share.took(entries(*range(1, 1201)), 0.0)
    assert [len(bundle) for bundle in share.renewals(10.0)] == [500, 500, 200]


def test_what_somebody_else_has_is_told_and_not_handed_out(share: Share) -> None:
    read_ahead = entries(1, 2, 3)
    share.took(read_ahead, 0.0)
    share.reads_ahead(read_ahead)
    assert share.renewed(ids(1, 2, 3), [(b"2-0", b"you")], 10.0) == {b"2-0": b"you"}
    assert read_ahead.ids == ids(1, 3)
    assert not share.holds("2-0")
    finish(share, 2)
    assert not share.due, "it is not this consumer's to acknowledge"


def test_what_is_pending_for_nobody_is_still_handed_out(share: Share) -> None:
    read_ahead = entries(1, 2)
    share.took(read_ahead, 0.0)
    share.reads_ahead(read_ahead)
    assert share.renewed(ids(1, 2), [(b"2-0", b"")], 10.0) == {}
    assert read_ahead.ids == ids(1, 2)
    assert share.holds("2-0")


# --- what others left -----------------------------------------------------------------------------------------------


def test_only_what_is_not_known_was_taken_over(share: Share) -> None:
    share.took(entries(1, 2), 0.0)
    finish(share, 2)
    assert share.looked(Taken(b"7-0", ids(1, 2, 3), ids(4))) == (ids(3), ids(4))
    assert share.place == "7-0"
    assert share.looked(Taken(b"0-0", ids(5))) == (ids(5), []), "Redis 6.2 does not tell what is gone"


def test_of_what_is_pending_only_what_was_taken_over_is_found(share: Share) -> None:
    # Between them may be what was delivered to this consumer and is still on its way.
    share.found(pending({1: 1, 2: 1, 3: 1}), 0.0, among=ids(1, 3))
    assert fetched(share) == ids(1, 3)


def test_what_is_pending_and_not_known_has_strayed(share: Share) -> None:
    share.took(entries(1, 2), 0.0)
    finish(share, 2)
    share.strayed(pending({1: 1, 2: 1, 3: 1, 4: 2}), 0.0, undelivered=True)
    assert fetched(share) == ids(3)
    assert share.deliveries() == [(b"3-0", 0), (b"4-0", 1)], "the delivery that never arrived does not count"


def test_what_a_consumer_before_this_one_left_under_its_name_counts(share: Share) -> None:
    share.strayed(pending({1: 2}), 0.0, undelivered=False)
    assert share.deliveries() == [(b"1-0", 2)]


def test_what_was_delivered_once_at_most_is_fetched_together_and_in_order(share: Share) -> None:
    found(share, {1: 1, 2: 1, 3: 0, 4: 1})
    assert fetched(share) == ids(1, 2), "what is fetched together has the same count"
    assert fetched(share) == ids(3)
    assert fetched(share) == ids(4)
    assert fetched(share) == []


def test_no_more_is_fetched_than_asked_for(share: Share) -> None:
    found(share, {1: 1, 2: 1, 3: 1})
    assert fetched(share, 2) == ids(1, 2)
    assert fetched(share, 2) == ids(3)


def test_what_two_consumers_died_with_is_handed_out_alone(share: Share) -> None:
    found(share, {1: 2, 2: 3, 3: 1})
    assert fetched(share) == ids(3)
    assert fetched(share) == ids(1), "beside others, which go on"
    assert fetched(share) == []
    assert not finish(share, 3)
    assert finish(share, 1), "which makes room for the next"
    assert fetched(share) == ids(2)


def test_what_was_delivered_too_often_is_given_up(share: Share) -> None:
    found(share, {1: 3, 2: 4, 3: 9})
    fetch = share.next_fetch(100)
    assert fetch == Fetch(ids(2, 3), 4, spent=True)


def test_a_fetch_counts_nothing_and_a_delivery_one_more(share: Share) -> None:
    found(share, {1: 1})
    fetch = share.next_fetch(100)
    assert fetch is not None
    assert words(share.member.fetch(fetch.ids, fetch.deliveries))[-2:] == ["RETRYCOUNT", "1"]
    share.fetched(fetch, entries(1), 0.0)
    assert words(share.count(b"1-0"))[-2:] == ["1-0", "2"]


def test_what_is_in_the_stream_no_more_is_lost_and_acknowledged(share: Share) -> None:
    found(share, {1: 1, 2: 1})
    fetch = share.next_fetch(100)
    assert fetch is not None
    there, gone = share.fetched(fetch, entries(1), 0.0)
    assert (there.ids, gone) == (ids(1), ids(2))
    share.lose(gone)
    assert share.unacknowledged == ids(2)
    assert not share.holds("2-0")


# --- the group ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "id"),
    [
        ("new", "$"),
        ("earliest", "0-0"),
        ("5-1", "5-1"),
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), "999-18446744073709551615"),
    ],
)
def test_a_group_begins_where_it_is_told(start: Any, id: str, share: Share) -> None:
    assert share.begins(start, "7-0", NOW) == id


def test_a_group_that_went_begins_again_behind_what_was_delivered(share: Share) -> None:
    share.join("3-0")
    share.took(entries(4), 0.0)
    assert share.begins("new", "9-0", NOW) == "4-0"


def test_the_group_of_a_stream_that_is_another_one_begins_at_its_first_entry(share: Share) -> None:
    share.join("30-0")
    assert share.begins("new", "9-0", NOW) == "0-0"


def test_with_the_group_goes_what_was_found_in_it(share: Share) -> None:
    found(share, {1: 1})
    share.took(entries(5), 0.0)
    share.join("0-0")
    assert fetched(share) == []
    assert not share.holds("1-0")
    assert share.holds("5-0"), "what was read is handled"
