"""The counts, who waits for which event, and what a flush says of losses."""

from __future__ import annotations

import asyncio
import logging

import pytest

from histories import Recorder
from mainflux_events import ThingRemoved, wire
from mainflux_events.errors import Undelivered
from mainflux_events.hooks import Observers
from mainflux_events.ledger import Ledger, settled
from mainflux_events.resp import Append
from support import wait_until

APPEND = Append("things", None)
PACKED = wire.encode(ThingRemoved(id="t1"), APPEND)


def ledger(*hooks: Recorder) -> Ledger:
    return Ledger("things", APPEND, Observers(hooks))


async def test_counts_begin_at_nothing_and_are_kept_apart() -> None:
    kept = ledger()
    kept.note_acknowledged(0, [b"1-0", b"2-0"])
    kept.note_dropped(2, PACKED)
    kept.note_undelivered(3, PACKED, "refused")
    assert (kept.acknowledged, kept.dropped, kept.undelivered) == (2, 1, 1)


async def test_an_acknowledgement_is_that_of_its_position() -> None:
    kept = ledger()
    sends = [asyncio.create_task(kept.acknowledgement(position)) for position in (5, 6)]
    await asyncio.sleep(0)
    kept.note_acknowledged(4, [b"4-0", b"5-0", b"6-0"])
    assert await asyncio.gather(*sends) == ["5-0", "6-0"]


@pytest.mark.parametrize("lost", ["dropped", "undelivered"])
async def test_who_waits_for_a_lost_event_is_told(lost: str) -> None:
    kept = ledger()
    send = asyncio.create_task(kept.acknowledgement(0))
    await asyncio.sleep(0)
    if lost == "dropped":
        kept.note_dropped(0, PACKED)
    else:
        kept.note_undelivered(0, PACKED, "it is too large")
    with pytest.raises(Undelivered, match="1 event was not delivered: (the buffer was full|it is too large)"):
        await send


async def test_a_cancelled_wait_disturbs_nothing() -> None:
    kept = ledger()
    send = asyncio.create_task(kept.acknowledgement(0))
    await asyncio.sleep(0)
    send.cancel()
    kept.note_acknowledged(0, [b"1-0"])
    await asyncio.wait([send])
    assert send.cancelled()
    assert kept.acknowledged == 1


async def test_a_flush_with_nothing_before_it_returns_at_once() -> None:
    async with asyncio.timeout(0.0):
        await settled((ledger(), 3, 3))


async def test_a_flush_waits_for_what_it_covers_and_no_longer() -> None:
    kept = ledger()
    flush = asyncio.create_task(settled((kept, 0, 2)))
    await asyncio.sleep(0)
    kept.note_progress(1)
    await asyncio.sleep(0)
    assert not flush.done()
    kept.note_progress(2)
    await flush
    assert kept.acknowledged == 0


async def test_a_flush_says_how_many_were_lost_before_it_and_since() -> None:
    kept = ledger()
    kept.note_dropped(0, PACKED)
    flush = asyncio.create_task(settled((kept, 1, 3)))
    await asyncio.sleep(0)
    kept.note_undelivered(1, PACKED, "refused")
    kept.note_progress(3)
    with pytest.raises(Undelivered) as caught:
        await flush
    assert (caught.value.count, caught.value.reason) == (2, "refused")


async def test_a_loss_is_said_once() -> None:
    kept = ledger()
    kept.note_dropped(0, PACKED)
    with pytest.raises(Undelivered):
        await settled((kept, 1, 1))
    await settled((kept, 1, 1))
    assert kept.dropped == 1


async def test_a_flush_that_timed_out_leaves_the_losses_to_the_next() -> None:
    kept = ledger()
    kept.note_dropped(0, PACKED)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await settled((kept, 1, 2))
    with pytest.raises(Undelivered) as caught:
        await settled((kept, 2, 2))
    assert caught.value.count == 1


async def test_what_was_accepted_after_a_flush_does_not_fail_it() -> None:
    kept = ledger()
    flush = asyncio.create_task(settled((kept, 0, 1)))
    await asyncio.sleep(0)
    kept.note_dropped(None, PACKED)
    kept.note_undelivered(1, PACKED, "refused")
    kept.note_progress(1)
    await flush
    with pytest.raises(Undelivered) as caught:
        await settled((kept, 2, 2))
    assert caught.value.count == 2


async def test_every_flush_that_waits_is_told_of_a_loss() -> None:
    kept = ledger()
    flushes = [asyncio.create_task(settled((kept, 0, 1))) for _ in range(2)]
    await asyncio.sleep(0)
    kept.note_dropped(0, PACKED)
    kept.note_progress(1)
    results = await asyncio.gather(*flushes, return_exceptions=True)
    assert [type(result) for result in results] == [Undelivered, Undelivered]


async def test_observers_are_told_of_each_loss_with_all_of_the_event() -> None:
    recorder = Recorder()
    kept = ledger(recorder)
    kept.note_dropped(0, PACKED)
    kept.note_undelivered(1, PACKED, "refused")
    [dropped], [undelivered] = recorder.lost_drops, recorder.lost_undelivered
    assert (dropped.stream, dropped.operation, dropped.reason) == (
        "things",
        "thing.remove",
        "the buffer was full",
    )
    assert undelivered.reason == "refused"
    assert dropped.fields[:2] == ((b"operation", b"thing.remove"), (b"id", b"t1"))
    assert undelivered.event().action == ThingRemoved(id="t1")


def logged_drops(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [int(record.getMessage().split()[1]) for record in caplog.records]


async def test_drops_that_come_soon_are_logged_together_and_soon(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.ledger.LOG_DROPS_EVERY", 0.02)
    kept = ledger()
    with caplog.at_level(logging.WARNING, "mainflux_events"):
        for position in range(1000):
            kept.note_dropped(position, PACKED)
        await wait_until(lambda: logged_drops(caplog) == [1, 999])
        kept.close()


async def test_what_was_dropped_before_the_close_is_logged_with_it(caplog: pytest.LogCaptureFixture) -> None:
    kept = ledger()
    with caplog.at_level(logging.WARNING, "mainflux_events"):
        for position in range(3):
            kept.note_dropped(position, PACKED)
        kept.close()
        kept.close()
    assert logged_drops(caplog) == [1, 2]
