from __future__ import annotations

from databases import postgres_directory, database, engine

__all__ = ["postgres_directory", "database", "engine"]
