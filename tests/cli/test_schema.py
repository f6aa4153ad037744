"""`mainflux-events schema`."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from commands import command

META = json.loads((Path(__file__).parents[1] / "reference" / "asyncapi-3.0.0.json").read_text())

MODULE = """\
from decimal import Decimal
from mainflux_events import Action

class OrderPlaced(Action, tag="order.placed"):
    order_id: str
    total: Decimal = Decimal(0)
"""


@pytest.fixture
def project(tmp_path: Path) -> str:
    """A directory with a package `shop` that has actions, and a module without any."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "events.py").write_text(MODULE)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("1 / 0")
    return str(tmp_path)


async def test_the_platforms_streams_are_described_validly() -> None:
    shown = await command("schema", "--title", "Things", "--version", "2.0.0")
    document = json.loads(shown.output)
    jsonschema.validate(document, META)
    assert document["info"]["title"] == "Things"
    assert document["info"]["version"] == "2.0.0"
    assert {channel["address"] for channel in document["channels"].values()} == {
        "mainflux.things",
        "mainflux.auth",
    }


async def test_a_users_own_actions_are_described_by_their_module(project: str) -> None:
    shown = await command("schema", "--import", "shop.events", "--stream", "orders", cwd=project)
    assert (shown.status, shown.errors) == (0, "")
    document = json.loads(shown.output)
    jsonschema.validate(document, META)
    assert list(document["channels"]) == ["orders"]
    assert list(document["components"]["messages"]) == ["order.placed"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--import", "shop.events"), "--stream"),
        (("--stream", "orders"), "--import"),
        (("--import", "nowhere", "--stream", "orders"), "No module named 'nowhere'"),
        (("--import", "broken", "--stream", "orders"), "ZeroDivisionError"),
        (("--import", "empty", "--stream", "orders"), "define no action"),
    ],
)
async def test_what_cannot_be_described_is_wrong_usage(
    arguments: tuple[str, ...], what: str, project: str
) -> None:
    shown = await command("schema", *arguments, cwd=project)
    assert shown.status == 2
    assert what in shown.complaint
