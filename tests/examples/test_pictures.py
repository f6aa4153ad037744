"""The pictures of the documentation, made by `python -m pictures`. (That of the dashboard needs a Prometheus.)"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"


def said_in(picture: str) -> str:
    """The text of a picture, without its layout."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", picture, re.DOTALL)
    return " ".join(html.unescape(text).replace("\N{NO-BREAK SPACE}", " ") for text in texts)


def test_the_picture_of_top_shows_streams_readers_and_rates(tmp_path: Path) -> None:
    places = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    subprocess.run(
        [sys.executable, "-m", "pictures", "top", "--directory", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        check=True,
    )
    said = said_in((tmp_path / "top.svg").read_text())
    assert "mainflux-events top" in said
    for shown in ("appended/s", "handled/s", "mainflux.things", "search.dead", "audit", "billing/billing-2"):
        assert shown in said
    [rate] = re.findall(r"audit\s+subscriber\s+mainflux\.things\s+[\d,]+\s+[\d.]+ \w+\s+([\d,]+)", said)
    assert int(rate.replace(",", "")) > 0


@pytest.mark.parametrize("name", ["demo", "top", "dashboard"])
def test_a_picture_in_the_documentation_asks_no_other_site(name: str) -> None:
    picture = (IMAGES / f"{name}.svg").read_text()
    assert re.findall(r"url\(\s*['\"]?https?:|href\s*=\s*\"https?:|@import", picture) == []


def test_the_picture_of_the_dashboard_has_all_its_panels() -> None:
    titles = set(re.findall(r'"title": "(.+?)"', (ROOT / "docs/observability/grafana.json").read_text()))
    said = said_in((IMAGES / "dashboard.svg").read_text())
    assert {title for title in titles if title not in said} == {"mainflux-events"}  # its own
