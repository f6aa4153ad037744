"""The ring: its bounds, the four policies, what is in flight. Sizes are those of bytes objects, no event is needed."""

from __future__ import annotations

import asyncio

import pytest

from mainflux_events.buffer import Buffer, Overflow
from mainflux_events.errors import BufferFull, ConfigError

Drops = list[tuple[int | None, bytes]]


def buffer(overflow: Overflow, *, size: int = 3, size_bytes: int = 100) -> tuple[Buffer, Drops]:
    drops: Drops = []
    made = Buffer(
        size=size, size_bytes=size_bytes, overflow=overflow, dropped=lambda *drop: drops.append(drop)
    )
    return made, drops


def filled(overflow: Overflow, **bounds: int) -> tuple[Buffer, Drops]:
    made, drops = buffer(overflow, **bounds)
    for octets in (b"a", b"b", b"c"):
        made.put(octets)
    return made, drops


def rest(of: Buffer) -> list[bytes]:
    return [packed for _, packed in of.take_all()]


def test_positions_count_from_zero() -> None:
    made, _ = buffer("raise")
    assert [made.put(b"a"), made.put(b"b")] == [0, 1]
    assert (len(made), made.accepted, made.queued, made.oldest) == (2, 2, 2, 0)


def test_drop_oldest_makes_room_and_says_what_it_dropped() -> None:
    made, drops = filled("drop_oldest")
    assert made.put(b"d") == 3
    assert drops == [(0, b"a")]
    assert rest(made) == [b"b", b"c", b"d"]
    assert made.accepted == 4


def test_drop_newest_accepts_and_drops() -> None:
    made, drops = filled("drop_newest")
    assert made.put(b"d") is None
    assert drops == [(None, b"d")]
    assert made.accepted == 4
    assert rest(made) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("overflow", ["raise", "wait"])
def test_what_may_not_be_dropped_is_not_accepted(overflow: Overflow) -> None:
    made, drops = filled(overflow)
    with pytest.raises(BufferFull) as caught:
        made.put(b"d")
    assert (caught.value.events, caught.value.size) == (3, 3)
    assert (made.accepted, drops) == (3, [])


def test_the_bound_in_bytes_is_exact() -> None:
    made, drops = buffer("drop_newest", size_bytes=10)
    assert made.put(b"x" * 10) == 0
    assert made.put(b"y") is None
    assert drops == [(None, b"y")]


def test_drop_oldest_drops_as_many_as_the_bytes_need() -> None:
    made, drops = buffer("drop_oldest", size=10, size_bytes=10)
    for octets in (b"a" * 4, b"b" * 4, b"c" * 2):
        made.put(octets)
    made.put(b"d" * 7)
    assert [position for position, _ in drops] == [0, 1]
    assert rest(made) == [b"cc", b"d" * 7]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="overflow: one of drop_oldest, .*'drop'"):
        buffer("drop")  # type: ignore[arg-type]


async def test_a_batch_is_bounded_in_events() -> None:
    made, _ = filled("raise")
    await made.next_batch(2, 100)
    assert made.in_flight == [b"a", b"b"]
    assert (len(made), made.unsettled, made.oldest) == (1, 3, 0)


async def test_a_batch_ends_with_the_event_that_reaches_its_bytes() -> None:
    made, _ = buffer("raise", size=10)
    for octets in (b"aa", b"bb", b"cc"):
        made.put(octets)
    await made.next_batch(10, 3)
    assert made.in_flight == [b"aa", b"bb"]


async def test_what_is_in_flight_takes_no_room_and_is_never_dropped() -> None:
    made, drops = filled("drop_oldest")
    await made.next_batch(10, 100)
    for octets in (b"d", b"e", b"f", b"g"):
        made.put(octets)
    assert made.in_flight == [b"a", b"b", b"c"]
    assert drops == [(3, b"d")]


async def test_settled_events_leave_from_the_front() -> None:
    made, _ = filled("raise")
    await made.next_batch(10, 100)
    made.put(b"d")
    made.settle(2)
    assert (made.in_flight, made.first_in_flight, made.oldest) == ([b"c"], 2, 2)
    made.settle(1)
    assert made.oldest == 3
    assert made.take_all() == [(3, b"d")]


async def test_positions_go_on_over_drops() -> None:
    made, _ = filled("drop_oldest")
    made.put(b"d")
    await made.next_batch(1, 100)
    assert (made.in_flight, made.first_in_flight) == ([b"b"], 1)


async def test_the_rest_is_in_order_with_its_positions() -> None:
    made, _ = filled("raise")
    await made.next_batch(2, 100)
    made.put(b"d")
    assert made.take_all() == [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d")]
    assert (made.unsettled, made.oldest) == (0, 4)


async def test_a_batch_is_waited_for() -> None:
    made, _ = buffer("raise")
    waiting = asyncio.create_task(made.next_batch(10, 100))
    await asyncio.sleep(0)
    assert not waiting.done()
    made.put(b"a")
    await waiting
    assert made.in_flight == [b"a"]


async def test_cancelled_while_waiting_for_a_batch_it_leaves_everything_where_it_was() -> None:
    made, _ = buffer("raise")
    waiting = asyncio.create_task(made.next_batch(10, 100))
    await asyncio.sleep(0)
    made.put(b"a")
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (made.in_flight, len(made)) == ([], 1)


async def test_waiting_events_get_room_in_their_order() -> None:
    made, _ = filled("wait")
    waiting = [asyncio.create_task(made.put_when_room(octets)) for octets in (b"d", b"e")]
    await asyncio.sleep(0)
    assert made.accepted == 3
    await made.next_batch(1, 100)
    assert await waiting[0] == 3
    assert not waiting[1].done()
    made.settle(1)
    await made.next_batch(1, 100)
    assert await waiting[1] == 4
    assert rest(made) == [b"b", b"c", b"d", b"e"]


async def test_a_small_event_does_not_overtake_a_large_one_that_waits() -> None:
    made, _ = buffer("wait", size=10, size_bytes=10)
    made.put(b"a" * 8)
    large = asyncio.create_task(made.put_when_room(b"b" * 5))
    await asyncio.sleep(0)
    small = asyncio.create_task(made.put_when_room(b"c"))
    await asyncio.sleep(0)
    assert (large.done(), small.done()) == (False, False)
    await made.next_batch(1, 100)
    assert [await large, await small] == [1, 2]


async def test_a_cancelled_wait_is_not_accepted_and_lets_the_next_one_in() -> None:
    made, _ = buffer("wait", size=10, size_bytes=10)
    made.put(b"a" * 8)
    large = asyncio.create_task(made.put_when_room(b"b" * 5))
    small = asyncio.create_task(made.put_when_room(b"c"))
    await asyncio.sleep(0)
    large.cancel()
    assert await small == 1
    assert rest(made) == [b"a" * 8, b"c"]


async def test_who_gave_up_waiting_at_that_moment_is_cancelled_and_not_refused() -> None:
    made, _ = filled("wait")
    waiting = asyncio.create_task(made.put_when_room(b"d"))
    await asyncio.sleep(0)
    waiting.cancel()
    made.refuse_waiting(lambda: RuntimeError("closing"))
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert made.accepted == 3


async def test_all_who_wait_can_be_refused() -> None:
    made, _ = filled("wait")
    waiting = asyncio.create_task(made.put_when_room(b"d"))
    await asyncio.sleep(0)
    made.refuse_waiting(lambda: RuntimeError("closing"))
    with pytest.raises(RuntimeError, match="closing"):
        await waiting
    assert made.accepted == 3


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_an_observer_that_publishes_in_turn_ends(overflow: Overflow) -> None:
    again = iter(range(3))

    def dropped(_position: int | None, _packed: bytes) -> None:
        if next(again, None) is not None:
            made.put(b"z")

    made = Buffer(size=2, size_bytes=100, overflow=overflow, dropped=dropped)
    for octets in (b"a", b"b", b"c"):
        made.put(octets)
    assert made.accepted == 6
    assert len(made) == 2
