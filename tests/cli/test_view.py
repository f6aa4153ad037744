"""What is said of a run while it lasts, and at its end."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from rich.console import Console

from mainflux_events import Event, OrgCreated
from mainflux_events.cli.demo.run import Run
from mainflux_events.cli.demo.view import View, report
from mainflux_events.testing import RedisServer
from support import wait_until


def event(number: int) -> Event:
    happened = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return Event(OrgCreated(str(number)), occurred_at=happened)


def run_on(server: RedisServer) -> Run:
    return Run(server.url, "things", events=3, rate=0, seed=1)


@pytest.fixture
async def disordered(server: RedisServer) -> Run:
    """A run of three events, none of them acknowledged, that one subscriber handled in another order."""
    run = run_on(server)
    for number in (0, 1, 2):
        run.published.note(event(number))
    for consumer, order in zip(run.consumers, [(0, 1, 2), (1, 0, 2)], strict=True):
        for number in order:
            consumer.tally.note(event(number))
    return run


def said(run: Run) -> str:
    """The last line of the report."""
    console = Console(file=io.StringIO(), width=200)
    console.print(report(run))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()[-1]


async def test_who_did_not_handle_them_in_order_is_named(disordered: Run) -> None:
    assert "audit did not handle them in order" in said(disordered)
    assert "search did not" not in said(disordered)


async def test_what_was_not_acknowledged_is_counted(disordered: Run) -> None:
    assert "0 of 3 were acknowledged" in said(disordered)


async def test_while_the_server_is_away_the_picture_shows_no_cursor(fresh_server: RedisServer) -> None:
    run, output = run_on(fresh_server), io.StringIO()
    await fresh_server.kill()
    async with Redis.from_url(fresh_server.url) as client:
        following = asyncio.create_task(View(run, client, Console(file=output)).follow())
        await wait_until(lambda: "\n" in output.getvalue())
        following.cancel()
        await asyncio.wait([following])
    assert following.cancelled()
    for line in output.getvalue().splitlines():
        assert "search consuming, handled 0 (0/s), lag -, cursor -; audit" in line
        assert line.endswith("lag -, cursor -")
