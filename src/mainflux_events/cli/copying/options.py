"""The options that `replay`, `mirror`, `dump` and `load` share."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from ..options import parse_when

FromStream: TypeAlias = Annotated[str, typer.Argument(metavar="SOURCE", help="The stream to read.")]

# = "earliest"
Since: TypeAlias = Annotated[
    Any,
    typer.Option(
        "--since",
        parser=parse_when,
        metavar="PLACE",
        help="From here on: a time, a duration back from now, behind an ID, earliest, new.",
    ),
]

# = "new"
Until: TypeAlias = Annotated[
    Any,
    typer.Option(
        "--until",
        parser=parse_when,
        metavar="PLACE",
        help="Up to here, and no further: a time, a duration back from now, an ID, new.",
    ),
]

# = "", for the server of the source
TargetRedis: TypeAlias = Annotated[
    str,
    typer.Option(
        "--to-redis",
        envvar="MAINFLUX_EVENTS_TO_REDIS",
        metavar="URL",
        help="The server of the target, where that is another one.",
    ),
]

# = ""
Name: TypeAlias = Annotated[
    str,
    typer.Option("--name", metavar="NAME", help="What the position is stored under, beside the target."),
]

# = False
KeepIds: TypeAlias = Annotated[
    bool,
    typer.Option("--keep-ids", help="Keep the entries' IDs. Nobody else may append to the target then."),
]

# = 0
MaxLen: TypeAlias = Annotated[
    int, typer.Option("--max-len", min=0, help="Trim the target to about so many entries; 0: keep all.")
]

# = False
Again: TypeAlias = Annotated[
    bool, typer.Option("--again", help="Begin anew, also where it was done before, or in part.")
]
