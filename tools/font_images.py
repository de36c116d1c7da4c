"""Draw the glyphs of a font as a folder of images: kanji in white on black, or emoji in color.

python tools/font_images.py kanji /usr/share/fonts/opentype/ipafont-gothic/ipag.ttf --out kanji
python tools/font_images.py emoji /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf --out emoji

On Debian the packages fonts-ipafont-gothic and fonts-noto-color-emoji hold these two fonts, and unicode-data holds the
list of jōyō kanji. Without that list, name --list jis1: the 2,965 kanji of level 1 of JIS X 0208.
"""

from __future__ import annotations

import argparse
import bz2
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

JOYO = Path("/usr/share/unicode/Unihan_OtherMappings.txt.bz2")  # Debian: unicode-data
EMOJI_BLOCKS = (range(0x2030, 0x3300), range(0x1F000, 0x1FB00))
FLAGS = range(0x1F1E6, 0x1F200)  # letters; a pair of them is a flag
SKIN_TONES = range(0x1F3FB, 0x1F400)
HAIR = range(0x1F9B0, 0x1F9B4)  # parts, not emoji of their own
JOINER, COLOR = "\u200d", "\ufe0f"  # joins emoji into one; asks for the drawing in color
GENDERS = tuple(JOINER + sign + COLOR for sign in "♀♂")
PEOPLE = "👩👨🧑"
JOBS = (*(JOINER + sign + COLOR for sign in "⚕⚖✈"), *(JOINER + sign for sign in "🌾🍳🎓🎤🎨🏫🏭💻💼🔧🔬🚀🚒"))
HAIR_STYLES = tuple(JOINER + chr(code) for code in HAIR)
BITMAP_SIZE = 109  # the only size of Noto Color Emoji
SHARPER = 4  # glyphs are drawn this many times larger, then averaged
MISSING = "\uffff"  # no character: fonts draw it as they draw all that they lack


def joyo(unihan: Path = JOYO) -> list[str]:
    """The 2,136 jōyō kanji of the property kJoyoKanji in a file of Unihan, compressed or not."""
    text = bz2.decompress(unihan.read_bytes()) if unihan.suffix == ".bz2" else unihan.read_bytes()
    fields = (line.split("\t") for line in text.decode().splitlines() if not line.startswith("#"))
    # Other forms of four kanji have a code point in place of the year.
    return [chr(int(one[0][2:], 16)) for one in fields if one[1:] == ["kJoyoKanji", "2010"]]


def jis_level_1() -> list[str]:
    """The 2,965 kanji of rows 16 to 47 of JIS X 0208; row 47 ends at cell 51."""
    codes = [(row, cell) for row in range(16, 48) for cell in range(1, 95) if (row, cell) <= (47, 51)]
    return [bytes([row + 0xA0, cell + 0xA0]).decode("euc_jp") for row, cell in codes]


def opened(path: Path, size: int, layout: ImageFont.Layout | None) -> ImageFont.FreeTypeFont:
    """The font in a size of pixels; ends the program with one line if it cannot be used."""
    try:
        return ImageFont.truetype(path, size, layout_engine=layout)
    except (OSError, ValueError) as error:
        sys.exit(f"{path} cannot be used as a font of {size} pixels ({error}); name another font or --size")


def ink(font: ImageFont.FreeTypeFont, text: str) -> bytes:
    """Digest of what the font draws for the text; empty without ink."""
    image = Image.new("RGBA", (2 * round(font.size), 2 * round(font.size)))
    ImageDraw.Draw(image).text((0, 0), text, font=font, embedded_color=True)
    return hashlib.sha256(image.tobytes()).digest() if image.getbbox() else b""


def drawn(font: ImageFont.FreeTypeFont, texts: Iterable[str]) -> Iterator[str]:
    """The texts that the font draws with ink, without those that look the same as an earlier one."""
    known = {b"", ink(font, MISSING)}
    for text in texts:
        found = ink(font, text)
        if found not in known:
            known.add(found)
            yield text


def emoji(
    font: ImageFont.FreeTypeFont, flags: bool = False, skin_tones: bool = False, people: bool = False
) -> list[str]:
    """The emoji of one code point that the font draws, and on request flags, skin tones, genders, jobs and hair."""
    parts = {*FLAGS, *SKIN_TONES, *HAIR}
    found = list(drawn(font, (chr(code) for block in EMOJI_BLOCKS for code in block if code not in parts)))
    width = font.getlength(found[0]) if found else 0.0
    sequences = [chr(a) + chr(b) for a in FLAGS for b in FLAGS] if flags else []
    toned = [one + chr(tone) for one in found for tone in SKIN_TONES] if skin_tones else []
    sequences += toned
    if people:
        plain = [one for one in found + toned if one[0] in PEOPLE]
        sequences += [one + gender for one in found + toned for gender in GENDERS]
        sequences += [one + part for one in plain for part in JOBS + HAIR_STYLES]
    # A sequence of that width is one glyph, not two.
    return list(drawn(font, found + [one for one in sequences if font.getlength(one) == width]))


def kanji_image(font: ImageFont.FreeTypeFont, character: str, size: int) -> Image.Image:
    """White on black, its box of ink in the middle; size x size, gray. The font has SHARPER times the size."""
    side = size * SHARPER
    image = Image.new("L", (side, side))
    left, top, right, bottom = font.getmask(character).getbbox()
    x, y = font.getbbox(character)[:2]
    corner = ((side - left - right) / 2 - x, (side - top - bottom) / 2 - y)
    ImageDraw.Draw(image).text(corner, character, fill=255, font=font)
    return image.resize((size, size), Image.Resampling.BOX)


def emoji_image(font: ImageFont.FreeTypeFont, text: str, size: int, background: str) -> Image.Image:
    """The whole glyph in the middle, in color; size x size."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    side = max(right - left, bottom - top)
    glyph = Image.new("RGBA", (side, side))
    corner = ((side - left - right) // 2, (side - top - bottom) // 2)
    ImageDraw.Draw(glyph).text(corner, text, font=font, embedded_color=True)
    glyph = glyph.resize((size, size), Image.Resampling.BOX)
    if background == "alpha":
        return glyph
    image = Image.new("RGBA", glyph.size, background)
    image.alpha_composite(glyph)
    return image.convert("RGB")


def name(text: str) -> str:
    """File name of a text: its code points, e.g. u4e00.png."""
    return "-".join(f"u{ord(one):04x}" for one in text) + ".png"


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    about, details = (__doc__ or "").split("\n\n", 1)
    found = argparse.ArgumentParser(
        description=about, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("kind", choices=["kanji", "emoji"])
    found.add_argument("fonts", nargs="+", metavar="font", type=Path, help="Font files; kanji may have several.")
    found.add_argument("--out", required=True, type=Path, help="New folder of the images.")
    found.add_argument("--size", type=int, default=32, help="Side of an image in pixels (default: %(default)s).")
    found.add_argument("--list", default="joyo", choices=["joyo", "jis1"], help="Kanji to draw (default: %(default)s).")
    found.add_argument("--unihan", type=Path, default=JOYO, help="File with kJoyoKanji (default: %(default)s).")
    found.add_argument("--flags", action="store_true", help="Draw flags as well.")
    found.add_argument("--skin-tones", action="store_true", help="Draw emoji in five skin tones as well.")
    found.add_argument("--people", action="store_true", help="Also draw women and men, jobs and hair styles.")
    found.add_argument(
        "--background", default="white", help="Color behind emoji, or alpha for none (default: %(default)s)."
    )
    return found


def main(words: list[str] | None = None) -> int:
    """Make the folder; print how many images it holds and what the fonts lack."""
    args = parser().parse_args(words)
    if args.out.exists():
        sys.exit(f"{args.out} exists; name a new folder with --out")
    if args.kind == "kanji" and args.list == "joyo" and not args.unihan.exists():
        sys.exit(f"{args.unihan} is missing; install unicode-data, name the file with --unihan, or type --list jis1")
    # Kanji have a margin of one pixel on each side.
    kanji = args.kind == "kanji"
    size, layout = ((args.size - 2) * SHARPER, ImageFont.Layout.BASIC) if kanji else (BITMAP_SIZE, None)
    fonts = [opened(path, size, layout) for path in args.fonts]
    args.out.mkdir(parents=True)
    for number, (path, font) in enumerate(zip(args.fonts, fonts)):
        prefix = f"{number}-" if number else ""
        if kanji:
            wanted = joyo(args.unihan) if args.list == "joyo" else jis_level_1()
            texts = list(drawn(font, wanted))
            images = (kanji_image(font, text, args.size) for text in texts)
            lacking = f", {len(wanted) - len(texts)} of {len(wanted):,} are missing from the font or drawn the same as another"
        else:
            texts = emoji(font, args.flags, args.skin_tones, args.people)
            images = (emoji_image(font, text, args.size, args.background) for text in texts)
            lacking = ""
        for text, image in zip(texts, images):
            image.save(args.out / (prefix + name(text)))
        print(f"{args.out}: {len(texts):,} images of {args.size} x {args.size} from {path.name}{lacking}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
