"""Random faults at random moments. What a failure prints reproduces them: `pytest tests/faults --fault-seed N`."""

from __future__ import annotations

import os
import random

import pytest

from faults.chaos import Chaos
from faults.kit import MODES, Mode

RUNS = 3
SECONDS = 6.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given: int | None = metafunc.config.getoption("--fault-seed")
    # Others every time, and the same in every process of one run.
    chosen = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID"))
    seeds = [chosen.randrange(1_000_000) for _ in range(RUNS)] if given is None else [given]
    metafunc.parametrize("seed", seeds, ids=[f"seed {seed}" for seed in seeds])


@pytest.mark.parametrize("mode", MODES)
async def test_whatever_happens_the_histories_add_up(seed: int, mode: Mode) -> None:
    tally = await Chaos(seed, SECONDS, mode).run()
    assert not tally.violations, "\n".join([f"with --fault-seed {seed}:", *tally.violations])
    # It did happen.
    assert sum(tally.faults.values()) > SECONDS
    assert tally.counts["acknowledged"] > 100 * SECONDS
    assert tally.counts["reconnects"] > 0
