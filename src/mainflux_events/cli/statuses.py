"""The exit statuses of the commands."""

from __future__ import annotations

from typing import Final

# All is done and well.
DONE: Final = 0
# It could not be done: the server cannot be used, or refuses; or it was declined.
FAILED: Final = 1
# The command line is wrong.
WRONG_USAGE: Final = 2
# It is done in part, and what is not was told; or what was looked for is not well.
PARTLY: Final = 3
# It was ended by Ctrl-C or a signal.
INTERRUPTED: Final = 130
