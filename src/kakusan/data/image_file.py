"""Decoder of one file to one image of 8-bit pixels.

Pillow decodes, and it trusts the claims of a file. So a file is refused first if it is large, claims many pixels, or
has more metadata than cameras and editors write. EXIF is read here, because Pillow would read every entry.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from kakusan.data import gif
from kakusan.data.options import ImageOptions
from kakusan.storage.files import MIB, read_regular

MOST_BYTES = 32 * MIB  # largest file
MOST_PIXELS = 64 * MIB
MOST_DECODING = 160 * MIB  # bytes of memory
MOST_METADATA = 4 * MIB  # largest metadata of a PNG
MOST_CHUNKS = 20_000  # chunks of a PNG; normal writers make chunks of 4 KiB or more
MOST_PACKED = 16  # compressed texts and profiles of a PNG, each of up to 1 MiB when unpacked
MOST_SEGMENTS = 1_000  # segments of a JPEG before its pixels
MOST_SCANS = 100  # scans of a JPEG; progressive ones have about 10, and each takes a pass over all pixels
MOST_SCANNED = 512 * MIB  # pixels, over all scans
SHRINKS = (8, 4, 2)  # a JPEG may be decoded at these fractions of its size
WHITE = 255
MADE_HERE = b"tEXtkakusan:"  # the text chunk of figures and samples that this library writes

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
SIXTEEN = b"\x10"  # bits a channel, in the header of a PNG
OTHER_FORMATS = {
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"PK\3\4": "a zip file",
    b"\xff\x0a": "a JPEG XL",
    b"\x93NUMPY": "a numpy array",
}
# Measured bytes of memory per decoded pixel; WebP uses an animation decoder with two canvases
BYTES_PER_PIXEL = {"1": 2.0, "L": 2.0, "RGB": 4.0}
BYTES_PER_PIXEL_ALPHA = 8.0
BYTES_PER_PIXEL_PALETTE = 12.0
BYTES_PER_PIXEL_WEBP = 18.5
LOW_BITS = 8  # lower bits of a 16-bit value, which are dropped
ORIENTATION, SHORT = 0x0112, 3  # an EXIF tag and its type
# operation that undoes each EXIF orientation; EXIF 2.3, section 4.6.4
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unusable(Exception):
    """Error for an unusable file; the message is the reason, printed after the file's name."""


class MadeHere(Exception):
    """Error for an image that this library wrote: a figure or samples, not data."""


@dataclass(frozen=True)
class DecodedImage:
    """The pixels of an image file and the properties of that file."""

    pixels: np.ndarray  # uint8 (C, H, W), C = 1, 3 or 4
    size: tuple[int, int]  # (height, width) in the file, upright
    color: bool  # True if the file has colors
    blended: bool  # it has an alpha channel and was put on white
    num_bytes: int  # size of the file
    digest: str  # SHA-256 of the file
    deep: bool = False  # 16 bits a channel in the file, of which the upper 8 are kept
    animated: bool = False  # the first of several frames


class _Jpeg(JpegImageFile):
    """JPEG reader that ignores the EXIF table, because a table of 64 KB can claim 300 MB."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def read_image(path: Path, options: ImageOptions) -> DecodedImage:
    """Decode a file, rotate it upright, blend it with white, crop it and resize it.

    Only the first frame of an animation is read, and only the upper 8 bits of 16-bit values.

    Raises:
        Unusable: With the reason.
        MadeHere: If this library wrote the image.
    """
    try:
        content = read_regular(path, MOST_BYTES)
    except OSError as error:
        reason = error.strerror or str(error)
        special = " not a file" in reason or "MiB" in reason
        raise Unusable(reason if special else f"cannot be read ({reason})") from error
    if not content:
        raise Unusable("empty, 0 bytes")
    num_bytes, digest = len(content), hashlib.sha256(content).hexdigest()
    content, animated = _first_frame(content)
    opener = _opener(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the warnings are about metadata, which is not used
            with opener(io.BytesIO(content)) as image:
                stored = image.size
                animated = animated or getattr(image, "is_animated", False)
                shrink = shrinkage(image.format, _upright(stored, _orientation(image)), options.size)
                _check_decoding(image, content, shrink)
                if shrink > 1:
                    image.draft(None, (stored[0] // shrink, stored[1] // shrink))
                image.load()
                turn = _orientation(image)  # after loading, because a PNG may have its EXIF after its pixels
                finished, color, blended = _finish(image, turn, options)
    except (Unusable, MadeHere):
        raise
    except Exception as error:  # a decoder may raise any error for a damaged file; its message is the reason
        raise Unusable(_reason(error)) from error
    pixels = np.asarray(finished)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    size, deep = _upright(stored, turn), content.startswith(PNG) and content[24:25] == SIXTEEN
    return DecodedImage(np.ascontiguousarray(pixels), size, color, blended, num_bytes, digest, deep, animated)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as displayed, read from its header alone.

    Raises:
        Unusable: If the header is not that of an image.
    """
    try:
        content = read_regular(path, MOST_BYTES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opener(content)(io.BytesIO(content)) as image:
                return _upright(image.size, _orientation(image))
    except (Unusable, MadeHere) as error:
        raise Unusable(str(error)) from error
    except Exception as error:  # a decoder may raise any error for a damaged file
        raise Unusable(_reason(error)) from error


def _first_frame(content: bytes) -> tuple[bytes, bool]:
    """Return the content, reduced to the first frame if it is a GIF, and whether that GIF has more frames."""
    if not content.startswith(gif.STARTS):
        return content, False
    frame = gif.first_frame(content)
    if frame is None:
        raise Unusable("truncated or damaged: a GIF without a whole frame")
    return frame


def _opener(content: bytes) -> type[ImageFile.ImageFile]:
    """Choose the Pillow class for these bytes, after the checks that need no decoder."""
    if content.startswith(PNG):
        _check_png(content)
        return PngImageFile
    if content.startswith(JPEG):
        _check_jpeg(content)
        return _Jpeg
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        if len(content) < (announced := 8 + int.from_bytes(content[4:8], "little")):
            raise Unusable(f"truncated ({announced:,} bytes announced)")
        return WebPImageFile
    if content.startswith(gif.STARTS):
        return GifImageFile
    raise Unusable(f"{_format_of(content[:32])}, not a PNG, JPEG, WebP or GIF image")


def _format_of(start: bytes) -> str:
    """Name of the format that the first bytes of a file indicate."""
    for mark, words in OTHER_FORMATS.items():
        if start.startswith(mark):
            return words
    if start[4:8] == b"ftyp":
        return "a HEIF, AVIF or video"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "text"
    return f"unknown content (it begins with {start[:4].hex(' ')})"


def _check_png(content: bytes) -> None:
    if content[12:16] != b"IHDR":
        raise Unusable("damaged: its header does not come first")
    if MADE_HERE in content[:4096]:
        raise MadeHere
    place, packed, metadata = len(PNG), 0, 0
    for _ in range(MOST_CHUNKS):
        length, name = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        packed += name in (b"zTXt", b"iTXt", b"iCCP")
        metadata += 0 if name == b"IDAT" else length
        place += 12 + length
        if place >= len(content):
            break
    else:
        raise Unusable(f"more than {MOST_CHUNKS:,} chunks")
    if metadata > MOST_METADATA:
        raise Unusable(f"{metadata / MIB:,.0f} MiB of metadata, at most {MOST_METADATA // MIB}")
    if packed > MOST_PACKED:
        raise Unusable(f"{packed:,} compressed texts or profiles, at most {MOST_PACKED}")


def _check_jpeg(content: bytes) -> None:
    """Bound the segments before the pixels, and refuse frames that libjpeg decodes in unusual ways."""
    place = 2
    for _ in range(MOST_SEGMENTS):
        while content[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        head = content[place + 1 : place + 4]
        if len(head) < 3 or head[0] == 0xDA:
            return  # at the pixels, or truncated, which Pillow reports
        if 0xC3 <= head[0] <= 0xCF and head[0] not in (0xC4, 0xC8, 0xCC):
            raise Unusable(f"an unusual kind of JPEG (frame {head[0]:x}); save it as an ordinary one")
        place += 2 + int.from_bytes(head[1:], "big")
    raise Unusable(f"more than {MOST_SEGMENTS:,} segments before its pixels")


def _check_decoding(image: ImageFile.ImageFile, content: bytes, shrink: int) -> None:
    """Refuse an opened image before decoding if it needs too much memory or would lose content."""
    width, height = image.size
    pixels = width * height
    if image.mode == "CMYK":
        raise Unusable("printing inks (CMYK), which have no unique meaning as colors; save it as RGB")
    each = BYTES_PER_PIXEL.get(image.mode, BYTES_PER_PIXEL_ALPHA)
    if image.mode == "P" or "transparency" in image.info:
        each = BYTES_PER_PIXEL_PALETTE
    if image.format == "WEBP":
        each = BYTES_PER_PIXEL_WEBP
    needed = pixels / shrink**2 * each
    if "progressive" in image.info:  # coefficients of 16 bits, at full size
        needed += 2.0 * len(image.getbands()) * pixels
    if pixels > MOST_PIXELS or needed > MOST_DECODING:
        raise Unusable(
            f"{width:,} x {height:,} pixels as {image.format} would take {math.ceil(needed / MIB):,} MiB to decode; "
            f"the limits are {MOST_DECODING // MIB} MiB and {MOST_PIXELS // MIB} megapixels: save it smaller"
        )
    # in coded data a byte ff is followed by 00, so ff da marks a scan
    scans = content.count(b"\xff\xda") if image.format == "JPEG" else 0
    if scans > (most := min(MOST_SCANS, MOST_SCANNED // pixels)):
        raise Unusable(f"{scans:,} passes over its pixels, at most {most:,}")


def shrinkage(form: str | None, size: tuple[int, int], wanted: tuple[int, int] | None) -> int:
    """Factor by which to shrink a JPEG while decoding it; the result has at least twice the wanted (height, width)."""
    if wanted is None or form != "JPEG":
        return 1
    return next((by for by in SHRINKS if all(s >= 2 * by * want for s, want in zip(size, wanted))), 1)


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(height, width) as displayed, from (width, height) as stored."""
    return size if orientation >= 5 else (size[1], size[0])


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none, or the table is damaged."""
    table = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(table[:2])
    if order is None or len(table) < 10:
        return 1
    (start,) = struct.unpack_from(order + "L", table, 4)
    count = struct.unpack_from(order + "H", table, start)[0] if start + 2 <= len(table) else 0
    for place in range(start + 2, min(start + 2 + 12 * count, len(table) - 11), 12):
        tag, kind, length, value = struct.unpack_from(order + "HHLH", table, place)
        if (tag, kind, length) == (ORIENTATION, SHORT, 1):
            return value if 1 <= value <= 8 else 1
    return 1


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError):
        return words[:200]
    if "truncated" in words.lower():
        return f"truncated ({words})"[:200]
    return f"damaged ({words or type(error).__name__})"[:200]


def _finish(image: Image.Image, turn: int, options: ImageOptions) -> tuple[Image.Image, bool, bool]:
    """Crop, resize, blend with white, rotate and set channels; return the image, and whether it has color and was blended."""
    if image.mode.startswith("I"):  # 16-bit gray; Pillow reads 16-bit color as 8 bits
        if "transparency" in image.info:
            raise Unusable("16-bit gray with a transparent color; save it with an alpha channel")
        image = Image.fromarray((np.asarray(image) >> LOW_BITS).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("P", "PA"):
        transparent = "transparency" in image.info or image.mode == "PA"
        mode = "RGB" if image.mode in ("P", "PA", "RGB") else "L"
        image = image.convert({"RGB": "RGBA", "L": "LA"}[mode] if transparent else mode)
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise Unusable(f"pixels of mode {image.mode}, expected 8-bit gray or RGB")
    if options.size is not None:  # first, because everything else is cheaper on a small image
        size = options.size[::-1] if turn < 5 else options.size  # (width, height) as stored
        image = image.resize(size, Image.Resampling.LANCZOS, box=centered_box(image.size, size))
    color, has_alpha = image.mode.startswith("RGB"), image.mode in ("LA", "RGBA")
    keep_alpha = options.channels == 4
    if has_alpha and not keep_alpha:
        opaque = image.convert(image.mode[:-1])
        white = Image.new(opaque.mode, image.size, (WHITE,) * len(opaque.getbands()))
        white.paste(opaque, mask=image.getchannel("A"))
        image = white
    if turn in TURNS:
        image = image.transpose(TURNS[turn])
    if options.channels is not None:
        image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[options.channels])
    return image, color, has_alpha and not keep_alpha


def centered_box(own: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centered box with the proportions of the wanted (width, height): left, top, right, bottom."""
    width = min(own[0], max(1, round(own[1] * wanted[0] / wanted[1])))
    height = min(own[1], max(1, round(own[0] * wanted[1] / wanted[0])))
    left, top = (own[0] - width) // 2, (own[1] - height) // 2
    return left, top, left + width, top + height
