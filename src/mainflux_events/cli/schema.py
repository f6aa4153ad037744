"""`schema`: what is on the streams, described for others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from ..actions import PLATFORM_ACTIONS
from ..errors import ConfigError
from ..events import action_classes
from ..schema import asyncapi
from .options import Modules, import_modules
from .statuses import DONE


def schema(
    modules: Modules = None,
    stream: Annotated[
        str, typer.Option(metavar="KEY", help="The stream that the actions of those modules are on.")
    ] = "",
    title: Annotated[str, typer.Option(help="The document's title.")] = "Domain events",
    version: Annotated[str, typer.Option(help="The document's version.")] = "1.0.0",
) -> int:
    """Print an AsyncAPI 3 document of streams and the entries on them, as JSON.

    Without --import, of the platform's streams; with it, of a stream with the actions that these modules define.

    \b
    Examples:
      mainflux-events schema > asyncapi.json
      mainflux-events schema --import my_app.events --stream orders --title Orders
    """
    if bool(modules) != bool(stream):
        raise typer.BadParameter(
            "the modules and their stream are given together", param_hint="--import, --stream"
        )
    print(json.dumps(_document(modules or [], stream, title, version), indent=2))
    return DONE


def _document(modules: Sequence[str], stream: str, title: str, version: str) -> dict[str, object]:
    if not modules:
        return asyncapi(title=title, version=version)
    import_modules(modules)
    actions = [action for action in action_classes().values() if action not in PLATFORM_ACTIONS]
    if not actions:
        raise typer.BadParameter("the modules define no action", param_hint="--import")
    try:
        return asyncapi({stream: actions}, title=title, version=version)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
