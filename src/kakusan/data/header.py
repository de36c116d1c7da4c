"""What a picture file says of itself before anything is decoded: PNG, JPEG or WebP, checked against limits.

A decoder trusts the header and takes memory by it. So the header is read here first, part by part and without
Pillow, and a file is refused if decoding would take too much memory, too many steps, or lose what it holds.

Sources: PNG third edition (W3C 2025), ITU-T T.81 (JPEG), RFC 9649 (WebP).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from kakusan.data.exif import orientation
from kakusan.data.unusable import Unusable

Format = Literal["PNG", "JPEG", "WEBP"]
MIB = 2**20
MOST_PIXELS = 64 * MIB
MOST_DECODING = 64 * MIB  # bytes that decoding may take
MOST_BESIDE = 4 * MIB  # bytes of a file that are not pixels: text, colour profiles, thumbnails
MOST_PARTS = 20_000  # chunks of a PNG or WebP: a fair writer makes them of 4 KiB or more
MOST_PACKED = 16  # compressed texts and profiles, each of up to 1 MiB when unpacked
MOST_SEGMENTS = 1_000  # of a JPEG before its pixels
MOST_SCANS = 100  # of a JPEG: progressive ones have about 10, and each costs a pass over all pixels
SHRINKS = (8, 4, 2)  # a JPEG may be decoded at these fractions of its size

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
OTHER_KINDS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"PK\3\4": "a zip file",
    b"\xff\x0a": "a JPEG XL",
    b"\x93NUMPY": "a numpy array",
}


@dataclass(frozen=True)
class Header:
    """What is known of a picture that may be decoded."""

    format: Format
    width: int
    height: int
    orientation: int  # EXIF, 1..8
    bytes_a_pixel: float  # memory that decoding takes, for each decoded pixel
    buffered: float = 0.0  # and for the whole, in bytes, whatever size it is decoded at

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) as seen."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    def shrink(self, size: tuple[int, int] | None) -> int:
        """By how much a JPEG is shrunk while it is decoded: not below twice the (height, width) that is wanted."""
        if size is None or self.format != "JPEG":
            return 1
        return next((by for by in SHRINKS if all(s >= 2 * by * want for s, want in zip(self.upright, size))), 1)

    def check_memory(self, size: tuple[int, int] | None) -> None:
        """Raises Unusable if decoding for this (height, width) would take too much."""
        pixels = self.width * self.height
        needed = pixels / self.shrink(size) ** 2 * self.bytes_a_pixel + self.buffered
        if pixels > MOST_PIXELS or needed > MOST_DECODING:
            raise Unusable(
                f"{self.width:,} x {self.height:,} pixels as {self.format} would take {math.ceil(needed / MIB):,} MiB to "
                f"decode; the limits are {MOST_DECODING // MIB} MiB and {MOST_PIXELS // MIB} megapixels: save it smaller"
            )


def read_header(file: BinaryIO) -> Header:
    """Of an open file, from its beginning.

    Raises:
        Unusable: With the reason why not to decode it.
    """
    file.seek(0)
    start = file.read(32)
    if start.startswith(PNG):
        header = _png(file)
    elif start.startswith(JPEG):
        header = _jpeg(file)
    elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        header = _webp(file)
    else:
        raise Unusable(f"{_kind(start)}, not a PNG, JPEG or WebP picture")
    if min(header.width, header.height) < 1:
        raise Unusable(f"its header says {header.width} x {header.height} pixels")
    return header


def _kind(start: bytes) -> str:
    """What a file seems to be, by its first bytes."""
    for mark, words in OTHER_KINDS.items():
        if start.startswith(mark):
            return words
    if start[4:8] == b"ftyp":
        return "a HEIF, AVIF or film"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "text"
    return f"unknown content (it begins with {start[:4].hex(' ')})"


def _png(file: BinaryIO) -> Header:
    size, exif, see_through = b"", b"", False
    beside = packed = 0
    depth = colour = -1
    for name, length, content in _chunks(file, len(PNG), ">L4s", tail=4):
        if not size and (name != b"IHDR" or length != 13):
            raise Unusable("damaged: its header does not come first")
        if name == b"IHDR":
            size = content(13)
            depth, colour = size[8:10] if len(size) == 13 else (-1, -1)
        elif name == b"acTL":
            raise Unusable("animated; save one picture of it")
        elif name == b"IEND":
            break
        elif name != b"IDAT":
            beside += length
            packed += name in (b"zTXt", b"iTXt", b"iCCP")
            see_through |= name == b"tRNS"
            if beside <= MOST_BESIDE and name == b"eXIf":
                exif = content(length)
    _check_beside(beside, packed)
    if colour not in (0, 2, 3, 4, 6):
        raise Unusable("damaged: its header is not whole")
    if depth == 16:
        raise Unusable("16 bits a channel, and pixels here have 8; save it with 8")
    width, height = struct.unpack(">LL", size[:8])
    blended = 12.0 if colour == 3 or see_through else {0: 2.0, 2: 4.0, 4: 8.0, 6: 8.0}[colour]
    return Header("PNG", width, height, orientation(exif), blended)


def _webp(file: BinaryIO) -> Header:
    file.seek(4)
    announced = 8 + int.from_bytes(file.read(4), "little")
    length = file.seek(0, os.SEEK_END)
    if length < announced:
        raise Unusable(f"truncated ({announced:,} bytes announced)")
    size: tuple[int, int] | None = None
    exif, beside = b"", 0
    for name, length, content in _chunks(file, 12, "<4sL", tail=0):
        if name == b"VP8X":
            head = content(10)
            size = size or (1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little"))
            if head[:1] and head[0] & 2:
                raise Unusable("animated; save one picture of it")
        elif name == b"VP8L" and size is None:
            bits = int.from_bytes(content(5)[1:5], "little")
            size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif name == b"VP8 " and size is None:
            head = content(10)
            size = int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
        elif name not in (b"VP8 ", b"VP8L", b"ALPH"):
            beside += length
            if beside <= MOST_BESIDE and name == b"EXIF":
                exif = content(length).removeprefix(b"Exif\0\0")
    _check_beside(beside)
    if size is None:
        raise Unusable("damaged: its header is not whole")
    # Pillow decodes WebP through the decoder for films: two canvasses, a copy, the picture; measured 16.3 to 18.2 in all
    return Header("WEBP", *size, orientation(exif), 18.5, length)


def _chunks(file: BinaryIO, start: int, layout: str, tail: int) -> Iterator[tuple[bytes, int, _Content]]:
    """Name, length and a reader of the content of each part of a PNG or WebP; as many as are there."""
    place = start
    for _ in range(MOST_PARTS):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        first, second = struct.unpack(layout, head)
        name, length = (second, first) if isinstance(second, bytes) else (first, second)
        yield name, length, _Content(file, place + 8)
        place += 8 + length + (tail or length % 2)
    raise Unusable(f"more than {MOST_PARTS:,} parts")


@dataclass(frozen=True)
class _Content:
    """Reads the beginning of one part."""

    file: BinaryIO
    place: int

    def __call__(self, length: int) -> bytes:
        self.file.seek(self.place)
        return self.file.read(length)


def _check_beside(beside: int, packed: int = 0) -> None:
    if beside > MOST_BESIDE:
        raise Unusable(f"{beside / MIB:,.0f} MiB beside its pixels, at most {MOST_BESIDE // MIB}")
    if packed > MOST_PACKED:
        raise Unusable(f"{packed:,} compressed texts or profiles, at most {MOST_PACKED}")


def _jpeg(file: BinaryIO) -> Header:
    frame: bytes | None = None
    progressive = False
    exif, index = b"", b""
    for marker, content in _segments(file):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif += content[6:]
        elif marker == 0xE2 and content.startswith(b"MPF\0"):
            index = content[4:]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame is not None:
                raise Unusable("damaged: two headers")
            if marker > 0xC2:
                raise Unusable(f"an unusual kind of JPEG (its frame is marked {marker:x}); save it as an ordinary one")
            frame, progressive = content, marker == 0xC2
    if frame is None or len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise Unusable("damaged: its header is not whole")
    precision, height, width, components = struct.unpack_from(">BHHB", frame)
    if precision != 8:
        raise Unusable(f"{precision} bits a channel, and pixels here have 8; save it with 8")
    if components == 4:
        raise Unusable("printing inks (CMYK), which have no one meaning as colours; save it as RGB")
    if components not in (1, 3):
        raise Unusable(f"{components} channels, expected 1 or 3")
    if _scans(file) > MOST_SCANS:
        raise Unusable(f"more than {MOST_SCANS} passes over its pixels")
    orientation(index)  # the index of further pictures is a table of the same form, which Pillow reads
    sampling = [frame[7 + 3 * i] for i in range(components)]
    blocks = [(s >> 4) * (s & 15) for s in sampling]
    widest = max(s >> 4 for s in sampling) * max(s & 15 for s in sampling)
    buffered = 2.0 * sum(blocks) / max(widest, 1) * width * height if progressive else 0.0  # coefficients of 16 bits
    return Header("JPEG", width, height, orientation(exif), 4.0 if components == 3 else 1.0, buffered)


def _segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan."""
    place = 2
    for _ in range(MOST_SEGMENTS):
        file.seek(place)
        head = file.read(4)
        while head[:2] == b"\xff\xff":  # fill bytes
            place += 1
            if place > MOST_BESIDE:
                break
            file.seek(place)
            head = file.read(4)
        if len(head) < 4:
            raise Unusable("truncated in its header")
        mark, marker, length = struct.unpack(">BBH", head)
        if mark != 0xFF or marker in (0x00, 0xD8, 0xD9) or length < 2:
            raise Unusable("damaged in its header")
        if marker == 0xDA:
            return
        content = file.read(length - 2)
        yield marker, content
        place += 2 + length
        _check_beside(place)
    raise Unusable(f"more than {MOST_SEGMENTS:,} segments before its pixels")


def _scans(file: BinaryIO) -> int:
    """Passes over the pixels: in coded data a byte ff is followed by 00, so the mark ff da stands for nothing else."""
    file.seek(0)
    count, last = 0, b""
    while block := file.read(2**16):
        count += (last + block).count(b"\xff\xda")
        last = block[-1:]
    return count
