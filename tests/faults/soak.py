"""Faults for as long as one likes: `nox -s soak -- --seconds 600 --seed 1`.

One round after another, each on a server of its own and with a seed of its own, the first with the one that is given:
so the seed that a failure prints reproduces it in the first round. After some random faults come flips: a server that
refuses and accepts in turn, in the middle of batches.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
import traceback

from faults.chaos import Chaos
from faults.kit import MODES, Mode, Tally
from faults.order import REFUSALS, flip
from mainflux_events.testing import redis_server

ROUND_SECONDS = 15.0
FLIPS = 500


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def soak(seconds: float, seed: int, mode: Mode) -> Tally:
    """Run rounds until the time is over, or a round has failed."""
    total = Tally()
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0 and not total.violations:
        say(f"seed {seed}, {left:.0f} s left")
        try:
            total += await Chaos(seed, min(left, ROUND_SECONDS), mode).run()
            for code in REFUSALS if time.monotonic() < ends else ():
                async with redis_server() as server:
                    total += await flip(server, code, FLIPS, mode)
        except Exception:
            total.violations.append(traceback.format_exc())
        if total.violations:
            say("\n".join([f"FAILED, with --seed {seed}:", *total.violations]))
        seed += 1
    return total


def report(total: Tally) -> None:
    """Say what happened."""
    counts = total.counts
    say()
    say(f"published: {', '.join(f'{counts[each]:,} {each}' for each in PUBLISHED)}")
    say(
        f"stored: {counts['stored']:,}, of them again {counts['stored again']:,}, where at most "
        f"{counts['promised']:,} are promised"
    )
    say(f"handed out: {counts['handed out']:,}, of them again {counts['handed out again']:,}")
    say(f"batches refused: {counts['refused']:,}, in the middle {counts['refused in the middle']:,}")
    say(f"faults: {', '.join(f'{times:,} {name}' for name, times in sorted(total.faults.items()))}")
    say(f"lost: {counts['lost']:,}; never handed out: {counts['never handed out']:,}")


PUBLISHED = ("accepted", "acknowledged", "dropped", "undelivered", "retries", "reconnects")


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s soak --", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--mode", choices=MODES, default=MODES[0])
    given = parser.parse_args()
    logging.getLogger("mainflux_events").addHandler(logging.NullHandler())
    total = asyncio.run(soak(given.seconds, given.seed, given.mode))
    report(total)
    sys.exit(bool(total.violations))


if __name__ == "__main__":
    main()
