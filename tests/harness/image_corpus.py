"""A folder of images for testing a reader: 200 usable files of many kinds, and 40 unusable ones.

Hostile files are assembled here byte by byte from the specifications of their formats.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 24
NUM_GOOD = 200
ORIENTATION = 0x0112
FIFO = "queue.png"


def colors(seed: int, height: int = SIDE, width: int = SIDE, channels: int = 3) -> np.ndarray:
    """Noise, uint8 (H, W, C): no pixel equals its neighbor, so that any shift changes the image."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif_of(orientation: int) -> Image.Exif:
    table = Image.Exif()
    table[ORIENTATION] = orientation
    return table


def good_files(folder: Path) -> list[str]:
    """Write 200 usable images, some in folders, some under difficult names; return their names."""
    makers: list[tuple[str, Callable[[Image.Image], bytes]]] = [
        ("a.png", lambda i: encoded(i, "PNG")),
        ("b.PNG", lambda i: encoded(i.convert("L"), "PNG")),
        ("c.png", lambda i: encoded(i.convert("P"), "PNG")),
        ("d.png", lambda i: encoded(i.convert("RGBA"), "PNG")),
        ("e.png", lambda i: encoded(i.convert("LA"), "PNG")),
        ("f.png", lambda i: encoded(i.convert("1"), "PNG")),
        ("g.png", lambda i: encoded(i.convert("P"), "PNG", transparency=0)),
        ("h.png", lambda i: encoded(i, "PNG", transparency=(1, 2, 3))),
        ("i.jpg", lambda i: encoded(i, "JPEG")),
        ("j.JPG", lambda i: encoded(i, "JPEG", progressive=True)),
        ("k.jpeg", lambda i: encoded(i.convert("L"), "JPEG")),
        ("l.Jpeg", lambda i: encoded(i, "JPEG", exif=exif_of(6))),
        ("m.jfif", lambda i: encoded(i, "MPO", save_all=True, append_images=[i])),  # as telephones write them
        ("n.webp", lambda i: encoded(i, "WEBP")),
        ("o.webp", lambda i: encoded(i.convert("RGBA"), "WEBP", lossless=True)),
        ("p.jpg", lambda i: encoded(i, "PNG")),  # harmless: what is in a file counts
        ("q é 拡散 .png", lambda i: encoded(i, "PNG")),
        ("r\x1b[31m.png", lambda i: encoded(i, "PNG")),
    ]
    names = []
    for index in range(NUM_GOOD):
        name, make = makers[index % len(makers)]
        inside = ["", "some", "some/deeper", "z"][index % 4]
        path = folder / inside / f"{index:03d}-{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        width = SIDE + index % 3
        path.write_bytes(make(Image.fromarray(colors(index, SIDE, width))))
        names.append(path.relative_to(folder).as_posix())
    return names


def other_files(folder: Path) -> int:
    """Write files that a scan ignores; return the number that it counts."""
    (folder / "labels.csv").write_text("a,b\n")
    (folder / "some" / "README").write_text("images")
    (folder / ".DS_Store").write_bytes(b"\0\0")
    (folder / "some" / "._a.png").write_bytes(b"\0\5\26\7")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.png").write_bytes(b"no image")
    return 2


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))


def png(width: int, height: int, *, depth: int = 8, color: int = 0, beside: bytes = b"", rows: bytes = b"") -> bytes:
    """A PNG with any content in every part; `rows` are the compressed pixels."""
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, 0))
    rows = rows or zlib.compress(bytes(height * (1 + width)))
    return b"\x89PNG\r\n\x1a\n" + head + beside + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zeros(amount: int) -> bytes:
    """Zero bytes, compressed a thousandfold."""
    packer = zlib.compressobj(1)
    block = bytes(2**20)
    parts = [packer.compress(block[: min(2**20, amount - start)]) for start in range(0, amount, 2**20)]
    return b"".join(parts) + packer.flush()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def table_bomb(entries: int = 5000) -> bytes:
    """A TIFF table whose every entry claims the whole table again: 5,000 times 60 KB."""
    rows = b"".join(struct.pack("<HHLL", tag, 1, 12 * entries, 8) for tag in range(1000, 1000 + entries))
    return struct.pack("<2sHLH", b"II", 42, 8, entries) + rows + bytes(4)


def patched(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def hostile_files(folder: Path) -> dict[str, str]:
    """Write 40 unusable files; return for each name a word that its reason must contain."""
    image = Image.fromarray(colors(1))
    whole_png, whole_jpg, whole_webp = (encoded(image, form) for form in ("PNG", "JPEG", "WEBP"))
    progressive = encoded(image, "JPEG", progressive=True)
    whole_gif = encoded(image, "GIF")
    frame = whole_jpg.index(b"\xff\xc0")
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    text_bomb = chunk(b"zTXt", b"words\0\0" + zeros(2**26))
    megabyte = zeros(2**20 - 100)
    contents: dict[str, tuple[bytes, str]] = {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"this is not a image\n", "text, not"),
        "page.png": (b"<!DOCTYPE html><html>404 Not Found</html>", "text, not"),
        "zeros.png": (bytes(1000), "unknown content"),
        "bmp.jpg": (encoded(image, "BMP"), "a BMP"),
        "tiff.webp": (encoded(image, "TIFF"), "a TIFF"),
        "pdf.jpeg": (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
        "zip.png": (b"PK\3\4" + bytes(40), "a zip"),
        "cut.png": (whole_png[: len(whole_png) // 2], "truncated"),
        "cut.jpg": (whole_jpg[: len(whole_jpg) * 3 // 4], "truncated"),
        "cut.webp": (whole_webp[: len(whole_webp) // 2], "truncated"),
        "head.png": (whole_png[:20], "truncated"),
        "head.jpg": (whole_jpg[:30], "truncated"),
        "head.webp": (whole_webp[:14], "truncated"),
        "flip.png": (patched(whole_png, len(whole_png) // 2, b"\0\1\2"), "damaged"),
        "order.png": (whole_png[:8] + whole_png[33:], "header does not come first"),
        "none.png": (png(0, 5), "damaged"),
        "claim.png": (png(60_000, 60_000, rows=b"x"), "60,000 x 60,000"),
        "bomb.png": (png(9000, 9000, rows=zeros(9000 * 9001)), "9,000 x 9,000"),
        "claim.jpg": (patched(whole_jpg, frame + 5, struct.pack(">HH", 65_000, 65_000)), "65,000 x 65,000"),
        "claim.webp": (patched(whole_webp, 26, struct.pack("<HH", 16_000, 16_000)), " pixels"),
        "text-bomb.png": (png(4, 4, beside=text_bomb), "too large"),
        "texts.png": (png(4, 4, beside=chunk(b"zTXt", b"w\0\0" + megabyte) * 60), "60 compressed"),
        "profiles.png": (png(4, 4, beside=chunk(b"iCCP", b"w\0\0" + megabyte) * 60), "60 compressed"),
        "beside.png": (png(4, 4, beside=chunk(b"tEXt", b"w\0" + b"x" * 2**23)), "8 MiB of metadata"),
        "parts.png": (png(4, 4, beside=chunk(b"abCd", b"") * 30_000), "20,000 chunks"),
        "segments.jpg": (whole_jpg[:2] + segment(0xFE, b"") * 5000 + whole_jpg[2:], "1,000 segments"),
        "scans.jpg": (progressive[:-2] + last_scan * 300 + progressive[-2:], "passes over"),
        "array.png": (b"\x93NUMPY\1\0", "a numpy array"),
        "inks.jpg": (encoded(image.convert("CMYK"), "JPEG"), "CMYK"),
        "cut.gif": (whole_gif[: len(whole_gif) // 2], "without a whole frame"),
        "head.gif": (whole_gif[:9], "without a whole frame"),
        "claim.gif": (patched(whole_gif, 6, struct.pack("<HH", 60_000, 60_000)), "60,000 x 60,000"),
        "words.gif": (b"GIF89a, a text", "without a whole frame"),
        "none.gif": (b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + b";", "without a whole frame"),
        "scan.png": (encoded(image, "TIFF"), "a TIFF"),
        "red\x1b[31m\x07\n.png": (b"title", "text, not"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / FIFO)
    (folder / "round.png").symlink_to("round.png")
    (folder / "up").symlink_to(".")
    words = {name: word for name, (_, word) in contents.items()}
    return words | {FIFO: "a FIFO", "round.png": "cannot be read", "up": "link to a folder"}


def more_hostile_files(folder: Path) -> dict[str, str]:
    """Write more unusable files, some only where the file system can hold them."""
    whole_jpg = encoded(Image.fromarray(colors(1)), "JPEG")
    frame = whole_jpg.index(b"\xff\xc0")
    big = folder / "sparse.png"
    with big.open("wb") as file:
        file.truncate(2**33)
    (folder / "12-bit.jpg").write_bytes(patched(whole_jpg, frame + 4, b"\x0c"))
    (folder / "lossless.jpg").write_bytes(patched(whole_jpg, frame + 1, b"\xc3"))
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "gone.png").symlink_to("nowhere")
    os.mkdir(os.fsencode(folder) + b"/\xff")
    (folder / os.fsdecode(b"\xff") / "x.png").write_bytes(b"\1\2\3")
    return {
        "sparse.png": "8,192 MiB",
        "12-bit.jpg": "12-bit",
        "lossless.jpg": "unusual kind",
        "zero.png": "a device",
        "gone.png": "No such file",
        "\\udcff/x.png": "unknown content",
    }
