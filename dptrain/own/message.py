"""Where a network of the user's own comes from, as its message tells a worker."""

import msgspec

from dptrain.own.given import Received
from dptrain.own.origin import Named, Origin


def origin_of(message: bytes) -> Origin | None:
    """Return the origin that `Origin.message` tells of; None for an empty message.

    Only for messages from this worker's own parent, through the pipe between them.
    """
    if not message:
        return None
    kind, content = msgspec.msgpack.decode(message)
    if kind == "named":
        return Named(content)
    return Received(*content)
