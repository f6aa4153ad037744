"""Order is kept under refusals: also where the server changes its mind in the middle of a batch, hundreds of times."""

from __future__ import annotations

import pytest

from faults.kit import MODES, Mode, Tally
from faults.order import REFUSALS, flip
from mainflux_events.testing import RedisServer

FLIPS = 500
ENOUGH = FLIPS // 40


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", REFUSALS)
async def test_order_is_kept_while_the_server_refuses_and_accepts_in_the_middle_of_batches(
    fresh_server: RedisServer, code: str, mode: Mode
) -> None:
    # A script, which is how an idempotent publisher appends, has no middle.
    happened = "refused in the middle" if mode == "default" else "refused"
    tally = Tally()
    for _ in range(10):  # once, but for a machine so busy that few of the changes come while there is a batch
        tally += await flip(fresh_server, code, FLIPS, mode)
        assert not tally.violations, "\n".join(tally.violations)
        if tally.counts[happened] > ENOUGH:
            break
        await fresh_server.command("FLUSHALL")
    assert tally.counts[happened] > ENOUGH
