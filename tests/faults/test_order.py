"""Order is kept under refusals: also where the server changes its mind in the middle of a batch, hundreds of times."""

from __future__ import annotations

import pytest

from faults.kit import MODES, Mode
from faults.order import REFUSALS, flip
from mainflux_events.testing import RedisServer

FLIPS = 500


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", REFUSALS)
async def test_order_is_kept_while_the_server_refuses_and_accepts_in_the_middle_of_batches(
    fresh_server: RedisServer, code: str, mode: Mode
) -> None:
    tally = await flip(fresh_server, code, FLIPS, mode)
    assert not tally.violations, "\n".join(tally.violations)
    # It did happen. (A script, which is how an idempotent publisher appends, has no middle.)
    assert tally.counts["refused in the middle" if mode == "default" else "refused"] > FLIPS / 40
