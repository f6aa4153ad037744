"""The table of faults names tests that are there, and all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
OF_THE_KIT = {"test_table", "test_proxy", "test_checker"}


def names_in(module: Path) -> set[str]:
    return {
        f"{module.stem}::{node.name}"
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_each_fault_has_its_tests() -> None:
    rows = [line for line in (HERE / "README.md").read_text().splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(test_\w+::test_\w+)`", row.rpartition(" | ")[2]) for row in rows]
    assert all(named), "a row without a test"
    there = set().union(*(names_in(path) for path in HERE.glob("test_*.py") if path.stem not in OF_THE_KIT))
    assert {name for names in named for name in names} == there
