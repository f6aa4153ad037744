"""A lease, without a server: until when it is held."""

from __future__ import annotations

from mainflux_events.lease import TTL, Lease
from mainflux_events.refusals import Refusal
from mainflux_events.resp import bulk_strings

ASKED = 1000.0  # of the monotonic clock


def words(packed: bytes) -> list[bytes]:
    return bulk_strings(packed, packed.index(b"\r\n") + 2)


def held() -> Lease:
    lease = Lease("key")
    lease.acquired(None, ASKED)
    return lease


def test_it_is_not_held_before_it_was_asked_for() -> None:
    assert Lease("key").until == 0


def test_it_is_held_from_when_it_was_asked_for_not_from_the_answer() -> None:
    assert held().until == ASKED + TTL


def test_it_is_not_held_where_somebody_else_has_it() -> None:
    lease = held()
    lease.acquired(1234, ASKED)
    assert lease.until == 0


def test_renewed_it_is_held_for_longer() -> None:
    lease = held()
    lease.renewed(1, ASKED + 1)
    assert lease.until == ASKED + 1 + TTL


def test_one_that_cannot_be_renewed_is_not_held_any_more() -> None:
    lease = held()
    lease.renewed(0, ASKED + 1)
    assert lease.until == 0


def test_a_server_that_refuses_to_renew_takes_nothing_away() -> None:
    lease = held()
    lease.renewed(Refusal("LOADING Redis is loading the dataset in memory"), ASKED + 1)
    assert lease.until == ASKED + TTL


def test_one_that_is_let_go_is_not_held_any_more() -> None:
    lease = held()
    lease.release()
    assert lease.until == 0


def test_each_one_has_a_token_of_its_own_and_another_once_it_is_renounced() -> None:
    lease, other = Lease("key"), Lease("key")
    before = lease.token
    lease.renounce()
    assert len({before, lease.token, other.token}) == 3


def test_every_command_names_the_token() -> None:
    lease = Lease("key")
    for packed in (lease.acquire(), lease.renew(), lease.release()):
        assert words(packed)[2:5] == [b"1", b"key", lease.token.encode()]
