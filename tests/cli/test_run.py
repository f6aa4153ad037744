"""How the demo finds out what was lost, came twice, or came out of order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from mainflux_events import Event, OrgCreated, OrgRemoved
from mainflux_events.cli.demo.run import Run, Tally, Verdict
from mainflux_events.testing import RedisServer


def event(number: int) -> Event:
    return Event(
        OrgCreated(str(number)), occurred_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    )


async def tally(numbers: Iterable[int]) -> Tally:
    made = Tally()
    for number in numbers:
        made.note(event(number))
    return made


async def verdict(*numbers: int) -> Verdict:
    """Of a subscriber that handled these, where 0 to 4 were published."""
    return (await tally(numbers)).against(await tally(range(5)))


async def test_all_of_them_once_and_in_order_agrees() -> None:
    found = await verdict(0, 1, 2, 3, 4)
    assert found == Verdict(lost=0, twice=0, foreign=0, same=True, in_order=True)
    assert found.agrees


async def test_a_missing_one_is_lost() -> None:
    found = await verdict(0, 1, 2, 4)
    assert (found.lost, found.agrees) == (1, False)


async def test_a_repeated_one_is_counted_and_agrees() -> None:
    found = await verdict(0, 1, 2, 1, 2, 3, 4)
    assert (found.lost, found.twice, found.in_order, found.agrees) == (0, 2, True, True)


async def test_a_repeated_one_does_not_make_up_for_a_missing_one() -> None:
    found = await verdict(0, 1, 2, 2, 4)
    assert (found.lost, found.twice, found.agrees) == (1, 1, False)


async def test_a_strange_one_does_not_make_up_for_a_missing_one() -> None:
    found = await verdict(0, 1, 2, 3, 77)
    assert (found.lost, found.foreign, found.agrees) == (1, 1, False)


async def test_another_order_does_not_agree() -> None:
    found = await verdict(0, 2, 1, 3, 4)
    assert (found.lost, found.in_order, found.agrees) == (0, False, False)


async def test_another_operation_does_not_agree() -> None:
    published, handled = await tally(range(2)), await tally(range(1))
    handled.note(Event(OrgRemoved("1"), occurred_at=event(1).occurred_at))
    assert not handled.against(published).agrees


async def test_the_replaced_subscriber_begins_with_the_entry_after_its_last(
    server: RedisServer, client: Redis
) -> None:
    run = Run(server.url, "things", events=3000, rate=0, seed=1)
    await run()
    stopped, resumed = run.messages
    ids = [id.decode() for id, _ in await client.xrange("things")]
    last, first = re.findall(r"\d+-\d+$", stopped) + re.findall(r"\d+-\d+$", resumed)
    assert ids.index(first) == ids.index(last) + 1
    assert run.agrees
    assert set(await client.keys()) == {key.encode() for key in run.keys}
