from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contract.backends import BACKENDS, STREAM, Backend, short_leases
from mainflux_events import Publisher
from support import background_tasks


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each of them in turn; `indirect` where it is not to be each of them."""
    return BACKENDS[request.param]


@pytest.fixture
async def url(backend: Backend) -> AsyncIterator[str]:
    """The URL of the backend's server."""
    with short_leases():
        async with backend.server() as url:
            yield url
        assert background_tasks() == []


@pytest.fixture
async def publisher(backend: Backend, url: str) -> AsyncIterator[Publisher]:
    """A publisher to the stream."""
    async with backend.publisher(url, STREAM) as publisher:
        yield publisher
