"""Which way up a camera held a picture, read with bounded work.

Pillow reads every entry of an EXIF table, and each may claim the whole table as its content: 64 KB of EXIF can ask
for 300 MB. We look at the table first and let Pillow see it only if what it claims is small.
"""

from __future__ import annotations

import struct

from kakusan.data.unusable import Unusable

ORIENTATION = 0x0112
UPRIGHT = 1
SHORT = 3
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # TIFF 6.0
MOST_CLAIMED = 2**20  # bytes, of all entries together
BYTE_ORDERS = {b"II": "<", b"MM": ">"}


def orientation(table: bytes) -> int:
    """1..8 as in EXIF 2.3, section 4.6.4; 1, upright, where the table does not say.

    Args:
        table: From its byte order mark on; a table that is cut short is read as far as it goes.

    Raises:
        Unusable: If its entries claim more than `MOST_CLAIMED`.
    """
    order = BYTE_ORDERS.get(table[:2])
    if order is None or len(table) < 8:
        return UPRIGHT
    magic, start = struct.unpack_from(order + "HL", table, 2)
    if magic != 42:
        raise Unusable(f"its EXIF part is of an unknown kind ({magic})")
    if start + 2 > len(table):
        return UPRIGHT
    (count,) = struct.unpack_from(order + "H", table, start)
    claimed, found = 0, UPRIGHT
    for place in range(start + 2, min(start + 2 + 12 * count, len(table) - 11), 12):
        tag, kind, length = struct.unpack_from(order + "HHL", table, place)
        claimed += TYPE_BYTES.get(kind, 1) * length
        if tag == ORIENTATION and kind == SHORT and length == 1:
            (found,) = struct.unpack_from(order + "H", table, place + 8)
    if claimed > MOST_CLAIMED:
        raise Unusable(f"its EXIF part claims {claimed / 2**20:,.0f} MiB")
    return found if 1 <= found <= 8 else UPRIGHT
