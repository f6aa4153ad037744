"""TLS is verified unless the user says otherwise, and never left out: what cannot be trusted is told at start."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis

from clusters import tls_in_front_of
from histories import STREAM, numbered, stored_ids
from listening import listening
from mainflux_events import Backoff, ConfigError, Publisher, Subscriber, ThingRemoved
from mainflux_events.link import Server
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

SECRET = "s3cret"
SHORT = Backoff(initial=0.01, maximum=0.05)

# OpenSSL's options are read and set by redis-py in a way that Python's own module warns of.
pytestmark = pytest.mark.filterwarnings("ignore:SSL_OP")

Behind = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return ca


@pytest.fixture
def behind(server: RedisServer, authority: trustme.CA) -> Behind:
    """Gives a port in front of the server that shows a certificate of our own CA, made of these arguments."""

    def at(*names: str, **validity: datetime) -> AbstractAsyncContextManager[int]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names, **validity).configure_cert(context)
        return tls_in_front_of(server, context)

    return at


@pytest.fixture
async def tls_port(behind: Behind) -> AsyncIterator[int]:
    async with behind("localhost") as port:
        yield port


@pytest.fixture
def trusted(tmp_path: Path, authority: trustme.CA) -> str:
    """The option of a URL that makes our own CA trusted."""
    return f"ssl_ca_certs={tmp_path / 'ca.pem'}"


async def refusal_of(server: Server) -> str:
    """What both sides say at start, which has to be the same."""
    told = set()
    for each in (Publisher(server, STREAM), Subscriber(server, STREAM, "audit")):
        with pytest.raises(ConfigError) as caught:
            await each.start()
        told.add(str(caught.value))
    [reason] = told
    return reason


async def test_events_go_over_tls(tls_port: int, trusted: str) -> None:
    url = f"rediss://localhost:{tls_port}?{trusted}"
    async with Publisher(url, STREAM) as publisher, Subscriber(url, STREAM, "audit") as subscriber:
        await publisher.send(ThingRemoved(id="t1"))
        assert (await anext(subscriber)).action == ThingRemoved(id="t1")


async def test_a_certificate_that_nobody_vouches_for(tls_port: int) -> None:
    told = await refusal_of(f"rediss://localhost:{tls_port}")
    assert told.startswith(
        f"redis at localhost:{tls_port} with TLS, database 0: its certificate is not trusted ("
    )
    assert told.endswith("where a CA of your own signed it, set ssl_ca_certs")


async def test_a_certificate_of_another_ca(tls_port: int, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    told = await refusal_of(f"rediss://localhost:{tls_port}?ssl_ca_certs={tmp_path / 'other.pem'}")
    assert "its certificate is not trusted (" in told


@pytest.mark.parametrize(
    ("host", "name", "reason"),
    [
        ("127.0.0.1", "localhost", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("localhost", "example.org", "Hostname mismatch, certificate is not valid for 'localhost'"),
    ],
)
async def test_a_certificate_of_another_host(
    host: str, name: str, reason: str, behind: Behind, trusted: str
) -> None:
    async with behind(name) as port:
        assert f"not trusted ({reason});" in await refusal_of(f"rediss://{host}:{port}?{trusted}")


@pytest.mark.parametrize(
    ("begins", "ends", "reason"),
    [
        (datetime(2010, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), "certificate has expired"),
        (datetime(2090, 1, 1, tzinfo=UTC), datetime(2091, 1, 1, tzinfo=UTC), "certificate is not yet valid"),
    ],
)
async def test_a_certificate_of_another_time(
    begins: datetime, ends: datetime, reason: str, behind: Behind, trusted: str
) -> None:
    async with behind("localhost", not_before=begins, not_after=ends) as port:
        assert f"not trusted ({reason});" in await refusal_of(f"rediss://localhost:{port}?{trusted}")


async def test_a_client_for_tls_is_verified_as_well(tls_port: int) -> None:
    async with Redis(host="localhost", port=tls_port, ssl=True) as given:
        assert "its certificate is not trusted" in await refusal_of(given)


async def test_only_who_asks_for_it_is_not_verified(tls_port: int, client: Redis) -> None:
    url = f"rediss://localhost:{tls_port}?ssl_cert_reqs=none&ssl_check_hostname=false"
    async with Publisher(url, STREAM) as publisher:
        await publisher.send(numbered(1))
    assert await stored_ids(client) == ["0000001"]


async def test_a_file_of_certificates_that_is_not_there(tls_port: int) -> None:
    url = f"rediss://localhost:{tls_port}?ssl_ca_certs=/no/such/file.pem"
    with pytest.raises(ConfigError, match="^redis: the files of certificates and keys .*FileNotFoundError"):
        Publisher(url, STREAM)


@pytest.mark.parametrize("answer", [b"-ERR unknown command\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_where_no_tls_is_spoken_nothing_is_said_in_plain(answer: bytes, trusted: str) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(10_000))
        writer.write(answer)
        heard.append(await reader.read())

    async with listening(serve) as port:
        told = await refusal_of(f"rediss://writer:{SECRET}@localhost:{port}?{trusted}")
    assert told == f"redis at localhost:{port} with TLS, database 0: what answers there does not speak TLS"
    assert heard[0].startswith(b"\x16\x03"), "a handshake of TLS"
    assert all(word not in part for part in heard for word in (SECRET.encode(), b"AUTH"))


async def test_a_server_without_tls_is_told_nothing_in_plain(fresh_server: RedisServer, trusted: str) -> None:
    """Redis takes the handshake for the beginning of a command and waits for the rest of it."""
    url = f"rediss://writer:{SECRET}@localhost:{{port}}?{trusted}"
    assert fresh_server.socket is not None
    heard: list[bytes] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, to_server = await asyncio.open_unix_connection(fresh_server.socket)
        while data := await reader.read(10_000):
            heard.append(data)
            to_server.write(data)
        to_server.close()

    async with listening(forward) as port:
        settings = {"attempt_timeout": 0.2, "close_timeout": 0.1, "backoff": SHORT}
        async with Publisher(url.format(port=port), STREAM, **settings) as publisher:  # type: ignore[arg-type]
            publisher.publish_nowait(numbered(1))
            await wait_until(lambda: heard)
    assert publisher.stats.undelivered == 1
    assert all(SECRET.encode() not in part for part in heard)


async def test_an_end_of_the_connection_is_noticed_behind_tls(
    tls_port: int, trusted: str, client: Redis
) -> None:
    url = f"rediss://localhost:{tls_port}?{trusted}"
    async with Publisher(url, STREAM, backoff=SHORT) as publisher:
        await publisher.send(numbered(1))
        await client.client_kill_filter(_type="normal", skipme=True)
        await asyncio.wait_for(publisher.send(numbered(2)), PATIENCE)
        assert publisher.stats.reconnects == 1
    assert await stored_ids(client) == ["0000001", "0000002"]
