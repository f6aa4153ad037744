"""The tests that docs/guarantees.md names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = re.findall(r"`(test_\w+)::(test_\w+)`", (ROOT / "docs" / "guarantees.md").read_text())
    assert len(named) > 30
    sources: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        sources[path.stem] = sources.get(path.stem, "") + path.read_text()
    missing = [f"{module}::{test}" for module, test in named if f"def {test}(" not in sources.get(module, "")]
    assert missing == []
