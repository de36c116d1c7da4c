"""The first frame of a GIF, extracted before decoding, so that no decoder reads the other frames."""

from __future__ import annotations

STARTS = (b"GIF87a", b"GIF89a")
HEADER = 13
EXTENSION, IMAGE, END = 0x21, 0x2C, 0x3B
GRAPHIC_CONTROL = 0xF9  # holds the transparent color; other extensions are comments, text and loops


def first_frame(content: bytes) -> tuple[bytes, bool] | None:
    """Return a GIF of the first frame alone and whether there are more frames; None if no frame is complete.

    Source: Graphics Interchange Format 89a, sections 17 to 27.
    """
    kept = place = HEADER + _table(content, 10)
    parts = [content[:kept]]
    while place < len(content):
        kind, begin = content[place], place
        if kind == EXTENSION:
            place = _after_blocks(content, place + 2)
            if content[begin + 1 : begin + 2] == bytes([GRAPHIC_CONTROL]):
                parts[1:] = [content[begin:place]]  # the last one before a frame belongs to it
        elif kind == IMAGE:
            place = _after_blocks(content, place + 11 + _table(content, begin + 9))
            if place > len(content):
                return None
            more = content[place : place + 1] not in (b"", bytes([END])) and content.find(bytes([IMAGE]), place) > 0
            return b"".join([*parts, content[begin:place], bytes([END])]), more
        else:
            return None
    return None


def _table(content: bytes, place: int) -> int:
    """Size in bytes of the color table that the flags at this position describe."""
    flags = content[place] if place < len(content) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(content: bytes, place: int) -> int:
    """Position after a sequence of sub-blocks; beyond the end if the content is truncated."""
    while place < len(content):
        length = content[place]
        place += length + 1
        if not length:
            return place
    return len(content) + 1
