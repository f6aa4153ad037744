"""The dashboard of docs/observability over a run, its queries answered by Prometheus.

Grafana is what shows it in earnest; here its panels are drawn by matplotlib, where and as what the dashboard says.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from prometheus_client import CollectorRegistry, start_http_server

from mainflux_events import Publisher
from mainflux_events.contrib.prometheus import EventsCollector
from mainflux_events.testing import redis_server
from pictures.panels import draw
from pictures.scene import scene
from support import wait_until

DASHBOARD = Path(__file__).parents[2] / "docs" / "observability" / "grafana.json"

# Seconds of the run, and in it of an outage of Redis.
RUN, OUTAGE_BEGINS, OUTAGE_ENDS = 60, 25, 32

# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "5s", "$stream": ".*", "$subscriber": ".*"}


class Series(NamedTuple):
    """What a query gives for one set of labels: its name in the legend, seconds since the start, values."""

    name: str
    times: Sequence[float]
    values: Sequence[float]


async def dashboard(prometheus: str, path: Path) -> None:
    """Run the scene through an outage, and draw the dashboard of it.

    Args:
        prometheus: the program.
        path: of the picture.

    Raises:
        LookupError: a query of the dashboard gives nothing.
    """
    async with redis_server(tcp=True) as server, scene(server.url) as parts:
        registry = CollectorRegistry()
        collector = EventsCollector(registry, lag_every=1.0)
        for part in parts:
            labels = {"consumer": part.consumer} if hasattr(part, "consumer") else {}
            collector.add(part, lag=not isinstance(part, Publisher), **labels)
        web, _ = start_http_server(0, "127.0.0.1", registry)
        async with scraping(prometheus, web.server_port) as client:
            began = time.time()
            await asyncio.sleep(OUTAGE_BEGINS)
            server.hang()
            await asyncio.sleep(OUTAGE_ENDS - OUTAGE_BEGINS)
            server.resume()
            await asyncio.sleep(RUN - OUTAGE_ENDS)
            panels = json.loads(DASHBOARD.read_text())["panels"]
            found = [await asked(client, panel, began) for panel in panels]
        web.shutdown()
    draw(list(zip(panels, found, strict=True)), path)


@asynccontextmanager
async def scraping(program: str, target: int) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus that scrapes a port each second, and a client of it."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        config = Path(directory, "prometheus.yml")
        jobs = [{"job_name": "scene", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}]
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
        probe.close()
        process = await asyncio.create_subprocess_exec(
            program, f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        )  # fmt: skip
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                await wait_until(lambda: _ready(client), 30, what="Prometheus is ready")
                yield client
        finally:
            process.terminate()
            await process.wait()


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def asked(client: httpx.AsyncClient, panel: dict[str, Any], began: float) -> list[Series]:
    """What the queries of a panel give, a second a point.

    Raises:
        LookupError: one gives nothing.
    """
    found = []
    for target in panel.get("targets", ()):
        query = target["expr"]
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        span = {"query": query, "start": began, "end": time.time(), "step": 1}
        answer = (await client.get("/api/v1/query_range", params=span)).raise_for_status().json()
        if not (series := answer["data"]["result"]):
            raise LookupError(f"{panel['title']}: nothing is found by {query}")
        for each in series:
            times, values = zip(*each["values"], strict=True)
            found.append(
                Series(
                    legend(target["legendFormat"], each["metric"]),
                    [at - began for at in times],
                    [float(value) for value in values],
                )
            )
    return found


def legend(form: str, labels: dict[str, str]) -> str:
    """The name of a series: `{{stream}} accepted` with its labels."""
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), form)
