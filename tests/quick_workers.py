"""The example of several workers, with leases that last for a second: so one that was killed is soon replaced."""

from __future__ import annotations

import sys
from pathlib import Path

from mainflux_events import lease, tenure

lease.TTL = 1.0  # type: ignore[misc]
tenure.RENEW_EVERY = 0.2  # type: ignore[misc]
tenure.ASK_EVERY = 0.1  # type: ignore[misc]

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from workers_app import app  # noqa: E402

__all__ = ["app"]
