"""One file to one picture of 8-bit pixels, or the reason why not."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from kakusan.data.header import MIB, Header, read_header
from kakusan.data.options import Pictures
from kakusan.data.unusable import Unusable

MOST_BYTES = 32 * MIB  # of a file
WHITE = 255
NONBLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a FIFO must not keep us waiting
SPECIAL = {
    stat.S_IFIFO: "a FIFO, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
    stat.S_IFDIR: "a folder, not a file",
}
# What undoes each EXIF orientation
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture and what it was made of."""

    pixels: np.ndarray  # uint8 (C, H, W), C = 1 or 3
    size: tuple[int, int]  # (height, width) in the file, upright
    colour: bool  # in the file
    blended: bool  # it has an alpha channel: white is behind it now
    num_bytes: int  # of the file
    digest: str  # SHA-256 of the file


def read_picture(path: Path, wanted: Pictures) -> Picture:
    """Decode a file, turned upright, on white, cropped and resized as wanted.

    Raises:
        Unusable: With the reason.
    """
    try:
        _check_kind(os.stat(path))
        with os.fdopen(os.open(path, os.O_RDONLY | NONBLOCKING), "rb") as file:
            about = os.fstat(file.fileno())
            _check_kind(about)
            header = read_header(file)
            header.check_memory(wanted.size)
            image, colour, blended = _decode(file, header, wanted)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror or error})") from error
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return Picture(np.ascontiguousarray(pixels), header.upright, colour, blended, about.st_size, digest)


def _check_kind(about: os.stat_result) -> None:
    """Only an ordinary file of a fair size is opened."""
    if not stat.S_ISREG(about.st_mode):
        raise Unusable(SPECIAL.get(stat.S_IFMT(about.st_mode), "not a file"))
    if not about.st_size:
        raise Unusable("empty, 0 bytes")
    if about.st_size > MOST_BYTES:
        raise Unusable(f"{about.st_size / MIB:,.0f} MiB, at most {MOST_BYTES // MIB}")


def _decode(file: BinaryIO, header: Header, wanted: Pictures) -> tuple[Image.Image, bool, bool]:
    """The finished picture; whether it has colour in the file; whether white was put behind it."""
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what stands beside the pixels, which we do not use
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=(header.format,)) as image:
                if image.size != (header.width, header.height):
                    raise Unusable(f"damaged: two sizes, {header.width} x {header.height} and {image.size}")
                shrink = header.shrink(wanted.size)
                if shrink > 1:
                    image.draft(None, (header.width // shrink, header.height // shrink))
                image.load()
                return _finish(image, header, wanted)
    except Unusable:
        raise
    except Exception as error:  # a decoder may fail in any way at a damaged file; what it says is the reason
        raise Unusable(_reason(error)) from error


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    if "truncated" in words:
        return f"truncated ({words})"
    return f"damaged ({words or type(error).__name__})"[:200]


def _finish(image: Image.Image, header: Header, wanted: Pictures) -> tuple[Image.Image, bool, bool]:
    """Resize first, for all else is cheaper on a small picture; crop, white behind it, upright, channels."""
    if "transparency" in image.info or image.mode in ("P", "PA"):
        see_through = "transparency" in image.info or image.mode == "PA"
        colour = "RGB" if image.mode in ("P", "PA", "RGB") else "L"
        image = image.convert({"RGB": "RGBA", "L": "LA"}[colour] if see_through else colour)
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise Unusable(f"pixels of kind {image.mode}, expected 8-bit grey or RGB")
    if wanted.size is not None:
        size = wanted.size[::-1] if header.orientation < 5 else wanted.size  # (width, height) as stored
        image = image.resize(size, Image.Resampling.LANCZOS, box=centre(image.size, size))
    colour, blended = image.mode.startswith("RGB"), image.mode in ("LA", "RGBA")
    if blended:
        opaque = image.convert(image.mode[:-1])
        behind = Image.new(opaque.mode, image.size, (WHITE,) * len(opaque.getbands()))
        behind.paste(opaque, mask=image.getchannel("A"))
        image = behind
    if header.orientation in TURNS:
        image = image.transpose(TURNS[header.orientation])
    if wanted.channels is not None:
        image = image.convert("L" if wanted.channels == 1 else "RGB")
    return image, colour, blended


def centre(own: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest box with the wanted (width, height)'s proportions in the middle: left, top, right, bottom."""
    width = min(own[0], max(1, round(own[1] * wanted[0] / wanted[1])))
    height = min(own[1], max(1, round(own[0] * wanted[1] / wanted[0])))
    left, top = (own[0] - width) // 2, (own[1] - height) // 2
    return left, top, left + width, top + height
