from __future__ import annotations

from databases import _postgresql, database, engine

__all__ = ["_postgresql", "database", "engine"]
