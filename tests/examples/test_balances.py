"""The example that keeps balances in a database, killed again and again."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from mainflux_events.testing import RedisServer
from support import wait_until

from .running import EXAMPLES

STREAM = "example.payments"
ACCOUNTS = ["ana", "bo", "cy"]
PAYMENTS = 400
LIVES = {"sqlite": 2, "postgresql": 3}


async def begin(redis_url: str, engine: AsyncEngine) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "balances.py"),
        env=os.environ
        | {"REDIS_URL": redis_url, "DATABASE_URL": engine.url.render_as_string(hide_password=False)},
    )


async def booked(engine: AsyncEngine) -> dict[str, int]:
    async with engine.connect() as connection:
        try:
            rows = await connection.execute(sa.text("SELECT account, cents FROM balances"))
        except DBAPIError:
            return {}  # there is no such table yet
        return {account: cents for account, cents in rows}  # noqa: C416 - typed


async def test_killed_again_and_again_it_ends_with_the_exact_sums(
    server: RedisServer, client: Redis, engine: AsyncEngine, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--fault-seed") or random.randrange(2**32)
    chance = random.Random(seed)
    paid: Counter[str] = Counter()
    pipeline = client.pipeline(transaction=False)
    for _ in range(PAYMENTS):
        account, cents = chance.choice(ACCOUNTS), chance.randint(1, 10_000)
        paid[account] += cents
        pipeline.xadd(STREAM, {"operation": "payment.made", "account": account, "cents": cents})
    await pipeline.execute()

    cut_short = 0
    lives = LIVES[engine.dialect.name]
    for _ in range(lives):
        before = sum((await booked(engine)).values())
        # So much of what is left is booked, and a moment more: then it dies in the midst of the next ones.
        enough = before + (paid.total() - before) * chance.uniform(0, 0.3)
        process = await begin(server.url, engine)

        async def far_enough(enough: float = enough) -> bool:
            return sum((await booked(engine)).values()) > enough

        try:
            await wait_until(far_enough)
            await asyncio.sleep(chance.uniform(0, 0.01))
        finally:
            process.kill()
            await process.wait()
        cut_short += sum((await booked(engine)).values()) < paid.total()
    assert cut_short == lives, f"--fault-seed {seed}"

    process = await begin(server.url, engine)

    async def all_booked() -> bool:
        return sum((await booked(engine)).values()) >= paid.total()

    try:
        await wait_until(all_booked)
    finally:
        process.terminate()
        await process.wait()
    assert await booked(engine) == paid, f"--fault-seed {seed}"
