"""One file each. A rival has a TITLE, and one or both of

    async def publish(url, stream, events) -> Taken   # from the first publish to the last acknowledgement
    async def consume(url, stream, count) -> Taken    # that many entries from the beginning, connecting included

SHARE says which part of the events it runs, so that slow ones do not take all the time: rates are compared. Where
what it consumes is not in the eleven fields, `fill(url, stream, events)` writes what it does.
"""
