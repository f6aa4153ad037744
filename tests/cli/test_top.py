"""`mainflux-events top`, what it computes and what it writes into a pipe; in a terminal, see `test_terminal`."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from commands import called
from mainflux_events.cli.behind import Behind
from mainflux_events.cli.looking import Moment, Rates, info_of
from mainflux_events.cli.output import show_bytes, show_seconds, time_of_id
from mainflux_events.cli.survey import Stream
from mainflux_events.cli.top import show_top
from mainflux_events.testing import RedisServer


def stream(added: int | None) -> Stream:
    return Stream("s", 10, None, "1-0", "9-0", added, [], [])


def reader(entries: int | None, position: str = "5-0", kind: str = "subscriber") -> Behind:
    return Behind("s", kind, "audit", position, entries, 1.0)  # type: ignore[arg-type]


def rates(before: tuple[int | None, Behind], now: tuple[int | None, Behind]) -> Rates:
    """Those of two moments, two seconds apart."""
    return Rates(Moment(10.0, [stream(before[0])], [before[1]]), Moment(12.0, [stream(now[0])], [now[1]]))


def test_a_stream_grows_by_what_was_ever_added() -> None:
    assert rates((100, reader(0)), (130, reader(0))).appended("s") == 15


@pytest.mark.parametrize(("before", "now"), [(None, 5), (5, None), (100, 20)])
def test_what_the_server_does_not_count_or_made_anew_has_no_rate(before: int | None, now: int | None) -> None:
    found = rates((before, reader(8)), (now, reader(2, "7-0")))
    assert (found.appended("s"), found.handled(reader(2, "7-0"))) == (None, None)


@pytest.mark.parametrize("kind", ["subscriber", "group"])
def test_a_reader_handles_what_was_appended_and_what_fewer_are_left(kind: str) -> None:
    now = reader(10, "7-0", kind)
    assert rates((100, reader(50, "5-0", kind)), (120, now)).handled(now) == 30


def test_a_reader_that_stands_still_handles_nothing_also_where_entries_are_removed() -> None:
    now = reader(10)
    assert rates((100, reader(50)), (100, now)).handled(now) == 0


def test_of_a_consumer_and_of_what_was_not_counted_there_is_no_rate() -> None:
    consumer, uncounted = reader(10, "7-0", "consumer"), reader(None, "7-0")
    assert rates((100, reader(50, "5-0", "consumer")), (120, consumer)).handled(consumer) is None
    assert rates((100, reader(50)), (120, uncounted)).handled(uncounted) is None


def test_at_the_first_look_there_are_no_rates() -> None:
    now = Rates(None, Moment(10.0, [stream(5)], [reader(5)]))
    assert (now.appended("s"), now.handled(reader(5))) == (None, None)


def test_info_is_read_by_names() -> None:
    found = info_of(
        "# Server\r\nredis_version:7.0.15\r\nos:Linux 6 x86_64\r\n\r\n# Memory\r\nused_memory:12\r\n"
    )
    assert found == {"redis_version": "7.0.15", "os": "Linux 6 x86_64", "used_memory": "12"}


async def test_into_a_pipe_it_writes_one_look_with_its_rates(
    server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.xadd("orders", {"operation": "order.placed"})
    await client.xgroup_create("orders", "billing", "0")

    async def between(_seconds: float) -> None:
        await client.xadd("orders", {"operation": "order.placed"})

    monkeypatch.setattr("mainflux_events.cli.top.asyncio.sleep", between)
    status, output, _ = shown = await called(show_top(server.url, ()))
    monkeypatch.undo()
    [of_stream] = [line.split() for line in shown.lines if line.startswith("orders")]
    [of_group] = [line.split() for line in shown.lines if line.startswith("billing")]
    version = (await client.info("server"))["redis_version"]
    assert status == 0
    assert f"version {version}" in shown.lines[0]
    assert "\x1b" not in output
    assert of_stream[:2] == ["orders", "2"]
    if of_stream[2] != "-":  # before Redis 7.0 nothing is counted
        assert int(of_stream[2].replace(",", "")) > 0
    assert of_group[:4] == ["billing", "group", "orders", "2"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1,023 B"),
        (1536, "1.5 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (1024**5, "1,048,576.0 GiB"),
    ],
)
def test_sizes_are_in_units(size: int | None, text: str) -> None:
    assert show_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0.0 s"), (59.94, "59.9 s"), (90, "1.5 m"), (5400, "1.5 h"), (129600, "1.5 d")],
)
def test_durations_are_in_units(seconds: float | None, text: str) -> None:
    assert show_seconds(seconds) == text


def test_an_id_tells_its_time_where_it_has_one() -> None:
    assert time_of_id("1767225600123-4") == "2026-01-01T00:00:00.123Z"
    assert [time_of_id(id) for id in (None, "0-0", f"{2**64 - 1}-0")] == [None] * 3
