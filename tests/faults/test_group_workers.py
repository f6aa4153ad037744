"""Worker processes of one consumer group that are killed again and again.

The full size, in a minute: `PYTHONPATH=src:tests python -m workers --workers 10 --events 100000 --kill-every 1`.
"""

from __future__ import annotations

import workers


async def test_every_event_is_handled_and_again_only_what_the_killed_had_in_hand() -> None:
    figures = await workers.run(events=10_000, workers=4, kill_every=0.4)
    assert figures.kills >= 5, "or nothing was shown"
    assert figures.handled == figures.events
    assert figures.left == 0
    # Each handler awaits, so of what a killed one had, only what was in hand had been begun.
    assert figures.again <= figures.killed_in_hand <= figures.kills
    assert figures.again < figures.killed_had, "by far not all that it had read"
