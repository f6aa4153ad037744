"""The modules for telemetry need their own extra and no other; the package needs none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What the extras bring along, and which module of `contrib` may need it.
BROUGHT = {
    "aiohttp": None,
    "fastapi": None,
    "starlette": None,
    "litestar": None,
    "opentelemetry": "opentelemetry",
    "prometheus_client": "prometheus",
    "typer": None,
    "rich": None,
}

CODE = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2].split(",")))  # None: as if it were not installed
__import__(sys.argv[1])
"""


@pytest.mark.parametrize("module", ["", "opentelemetry", "prometheus"])
def test_a_module_is_imported_where_no_other_extra_is_installed(module: str) -> None:
    name = f"mainflux_events.contrib.{module}" if module else "mainflux_events"
    missing = [brought for brought, needed_by in BROUGHT.items() if needed_by != module]
    command = [sys.executable, "-c", CODE, name, ",".join(missing)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
