"""Workers that share partitions, one of which is killed again and again.

Ten workers and 100,000 events, in a minute: `PYTHONPATH=src:tests python -m partition_workers`.
"""

from __future__ import annotations

import pytest

import partition_workers


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_workers_that_are_killed_lose_nothing_and_no_order_and_repeat_what_they_had_in_hand(
    concurrency: int,
) -> None:
    figures = await partition_workers.run(
        events=2000, workers=3, partitions=8, kill_after=500, ttl=0.7, concurrency=concurrency
    )
    assert figures.wrong == []
    assert figures.handled == 2000
    assert figures.kills >= 2
    assert figures.again <= figures.kills * partition_workers.in_hand(concurrency)
