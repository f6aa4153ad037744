"""What Prometheus gets, scraped over HTTP from publishers and subscribers of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from mainflux_events import (
    ConfigError,
    Event,
    GroupSubscriber,
    OrgCreated,
    Publisher,
    PublisherStats,
    Subscriber,
    SubscriberStats,
)
from mainflux_events.contrib.prometheus import GAUGES, HELP, PUBLISHER, SUBSCRIBER, EventsCollector
from mainflux_events.testing import RedisServer
from support import wait_until

STREAM = "scraped"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def url(registry: CollectorRegistry) -> Iterator[str]:
    """Where the registry is served, by a thread."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


async def scrape(url: str) -> Samples:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(url)
    assert answer.status_code == 200
    return parsed(answer.text)


def parsed(text: str) -> Samples:
    found = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert len(found) == len(dict(found))  # no series is there twice
    return dict(found)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def test_a_scrape_reads_the_counts_of_a_publisher(
    server: RedisServer, registry: CollectorRegistry, url: str
) -> None:
    collector = EventsCollector(registry)
    async with Publisher(server.url, STREAM) as publisher:
        collector.add(publisher)
        assert value(await scrape(url), f"{PUBLISHER}_accepted_total", stream=STREAM) == 0
        await publisher.send(OrgCreated("o1"))
        found = await scrape(url)
        for name, expected in (
            ("accepted_total", 1),
            ("acknowledged_total", 1),
            ("buffered", 0),
            ("healthy", 1),
        ):
            assert value(found, f"{PUBLISHER}_{name}", stream=STREAM) == expected
        last = publisher.health().last_acknowledged
        assert last is not None
        shown = value(found, f"{PUBLISHER}_last_acknowledged_timestamp_seconds", stream=STREAM)
        assert shown == pytest.approx(last.timestamp(), abs=1.0)
        assert value(found, f"{PUBLISHER}_oldest_unacknowledged_seconds", stream=STREAM) == 0


async def test_a_scrape_reads_the_counts_of_subscribers_and_their_lag(
    server: RedisServer, registry: CollectorRegistry, url: str
) -> None:
    collector = EventsCollector(registry, lag_every=0.0)
    async with Publisher(server.url, STREAM) as publisher:
        for number in range(5):
            await publisher.publish(OrgCreated(f"o{number}"))
    audit = Subscriber(server.url, STREAM, "audit", start="earliest")
    workers = GroupSubscriber(server.url, STREAM, "workers", start="earliest")
    collector.add(audit, lag=True)
    collector.add(workers, lag=True)
    handled: list[Event] = []
    async with audit, workers:
        running = asyncio.create_task(workers.run(handled.append))
        await wait_until(lambda: len(handled) == 5)
        await anext(audit)
        await audit.commit(await anext(audit))

        async def lag(name: str) -> float | None:
            found = await scrape(url)
            return found.get(
                (f"{SUBSCRIBER}_lag_entries", frozenset({"subscriber": name, "stream": STREAM}.items()))
            )

        async def known() -> bool:
            return await lag("audit") == 3 and await lag("workers") == 0

        await wait_until(known)
        found = await scrape(url)
        labels = {"subscriber": "workers", "stream": STREAM}
        assert value(found, f"{SUBSCRIBER}_handled_total", **labels) == 5
        assert value(found, f"{SUBSCRIBER}_healthy", **labels) == 1
        assert value(found, f"{SUBSCRIBER}_standby", **labels) == 0
        assert value(found, f"{SUBSCRIBER}_lag_seconds", **labels) == 0
    await running

    async def forgotten() -> bool:
        return await lag("audit") is None  # it cannot be asked any more, and an old one is not shown

    await wait_until(forgotten)
    assert value(await scrape(url), f"{SUBSCRIBER}_healthy", subscriber="audit", stream=STREAM) == 0


async def test_the_lag_is_asked_for_when_somebody_scrapes_and_no_more_often_than_is_said(
    server: RedisServer, registry: CollectorRegistry
) -> None:
    asked = 0

    class Counting(Subscriber):
        async def lag(self):  # type: ignore[no-untyped-def]
            nonlocal asked
            asked += 1
            return await super().lag()

    collector = EventsCollector(registry, lag_every=600.0)
    async with Counting(server.url, STREAM, "audit") as subscriber:
        collector.add(subscriber, lag=True)
        await asyncio.sleep(0)
        assert asked == 0
        for _ in range(3):
            generate_latest(registry)  # on the loop itself: it must not wait
        await wait_until(lambda: b"lag_seconds{" in generate_latest(registry))
    assert asked == 1


async def test_several_are_told_apart_by_labels_and_the_same_is_refused(
    server: RedisServer, registry: CollectorRegistry
) -> None:
    collector = EventsCollector(registry)
    first, second = Publisher(server.url, STREAM), Publisher(server.url, STREAM)
    collector.add(first)
    with pytest.raises(ConfigError, match="role="):
        collector.add(first)
    with pytest.raises(ConfigError, match="role="):
        collector.add(second)
    collector.add(second, role="mirror")
    collector.add(Subscriber(server.url, [STREAM, "other"], "audit"))
    found = parsed(generate_latest(registry).decode())
    assert value(found, f"{PUBLISHER}_accepted_total", stream=STREAM, role="") == 0
    assert value(found, f"{PUBLISHER}_accepted_total", stream=STREAM, role="mirror") == 0
    labels = {"subscriber": "audit", "stream": "scraped,other"}
    assert value(found, f"{SUBSCRIBER}_received_total", **labels) == 0
    assert value(found, f"{SUBSCRIBER}_healthy", **labels) == 0  # it is not started
    collector.remove(second)
    found = parsed(generate_latest(registry).decode())
    assert (f"{PUBLISHER}_healthy", frozenset({("stream", STREAM)})) in found


async def test_a_publisher_has_no_lag(registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigError, match="lag"):
        EventsCollector(registry).add(Publisher("redis://nowhere", STREAM), lag=True)


def test_away_from_the_loop_the_lag_cannot_be_asked_for(registry: CollectorRegistry) -> None:
    with pytest.raises(ConfigError, match="event loop"):
        EventsCollector(registry).add(Subscriber("redis://nowhere", STREAM, "audit"), lag=True)


async def test_what_is_removed_is_not_asked_any_more(
    server: RedisServer, registry: CollectorRegistry
) -> None:
    collector = EventsCollector(registry, lag_every=0.0)
    async with Subscriber(server.url, STREAM, "audit") as subscriber:
        collector.add(subscriber, lag=True)
        generate_latest(registry)
        collector.remove(subscriber)
        assert f"{SUBSCRIBER}_healthy{{" not in generate_latest(registry).decode()
    collector.remove(subscriber)  # no harm in that


def test_every_number_of_the_stats_is_a_metric_with_a_text() -> None:
    assert set(PublisherStats.__struct_fields__) <= set(HELP[PUBLISHER])
    assert set(SubscriberStats.__struct_fields__) <= set(HELP[SUBSCRIBER])
    assert set(PublisherStats.__struct_fields__) >= GAUGES
