from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events.refusals import Refusal
from mainflux_events.shares import Members, share_out

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


@given(st.integers(1, 100), NAMES)
def test_each_partition_goes_to_one_member_and_the_shares_are_even(
    partitions: int, members: list[str]
) -> None:
    shares = share_out(partitions, members)
    assert Counter(number for share in shares.values() for number in share) == Counter(range(partitions))
    sizes = [len(shares[member]) for member in members]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 50), NAMES, st.randoms())
def test_everybody_works_out_the_same_whatever_the_order(
    partitions: int, members: list[str], random: st.Random
) -> None:  # type: ignore[name-defined]
    shuffled = random.sample(members, len(members))
    assert share_out(partitions, shuffled) == share_out(partitions, members)


@pytest.mark.parametrize(("before", "after"), [(5, 4), (4, 5)], ids=["goes", "comes"])
def test_where_one_comes_or_goes_most_of_the_others_partitions_stay(before: int, after: int) -> None:
    members = [f"m{number}" for number in range(5)]
    one, other = share_out(100, members[:before]), share_out(100, members[:after])
    # The even shares of four and of five have 80 in common at the best; dealt out in turn, they have 40 or fewer.
    assert sum(len(one[member] & other[member]) for member in members[:4]) >= 60


def test_of_no_members_nobody_gets_anything() -> None:
    assert share_out(4, []) == {}


def test_the_members_that_answer_are_sorted_and_a_refusal_is_raised() -> None:
    members = Members("key", "b", 5.0)
    assert members.attending([b"b", b"a"]) == ["a", "b"]
    with pytest.raises(Refusal):
        members.attending(Refusal("OOM command not allowed"))
