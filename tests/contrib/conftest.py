from __future__ import annotations

from databases import database, engine, postgres_directory

__all__ = ["database", "engine", "postgres_directory"]
