"""tools/font_images.py draws glyphs in the middle, once each, and only those that the font holds."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageFont

import kakusan as kk
from harness.pages import ROOT, blocks
from kakusan.data.open import open_data
from kakusan.images import Images

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # letters, symbols and faces, no kanji
UNIHAN = """# U+4E00\tkJoyoKanji\t2010
U+0041\tkJoyoKanji\t2010
U+0042\tkJoyoKanji\tU+0041
U+0043\tkJinmeiyoKanji\t2010
U+006C\tkJoyoKanji\t2010
U+4E00\tkJoyoKanji\t2010
"""


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("font_images", ROOT / "tools" / "font_images.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unihan(tmp_path):
    path = tmp_path / "unihan.txt"
    path.write_text(UNIHAN, encoding="utf-8")
    return path


def test_the_list_has_standard_forms_and_no_other_property(tool, unihan):
    assert tool.joyo(unihan) == ["A", "l", "一"]


def test_level_1_has_its_2965_kanji_from_first_to_last(tool):
    kanji = tool.jis_level_1()
    assert len(set(kanji)) == len(kanji) == 2965
    assert kanji[0] + kanji[-1] == "亜腕"
    assert all("\u4e00" <= one <= "\u9fff" or one == "々" for one in kanji)


def test_glyphs_are_white_on_black_with_their_ink_in_the_middle(tool, unihan, tmp_path, capsys):
    out = tmp_path / "kanji"
    tool.main(["kanji", str(FONT), "--out", str(out), "--unihan", str(unihan), "--size", "24"])
    assert (
        "2 images of 24 x 24 from DejaVuSans.ttf, 1 of 3 are missing from the font or drawn the same as another"
        in capsys.readouterr().out
    )
    assert sorted(path.name for path in out.iterdir()) == ["u0041.png", "u006c.png"]
    for path in out.iterdir():
        image = np.array(Image.open(path))
        assert image.shape == (24, 24)
        assert image.max() > 200
        for axis in (0, 1):
            (inked,) = image.any(axis=axis).nonzero()
            assert abs(inked[0] - (23 - inked[-1])) <= 1  # equal margins, up to a pixel that is partly covered


def test_emoji_are_drawn_once_each_without_parts_and_missing_ones(tool, monkeypatch):
    monkeypatch.setattr(
        tool,
        "EMOJI_BLOCKS",
        (range(0x2600, 0x2620), range(0x4E00, 0x4E08), range(0x1F3FA, 0x1F404), range(0x1F600, 0x1F604)),
    )
    font = ImageFont.truetype(FONT, tool.BITMAP_SIZE)
    found = tool.emoji(font)
    assert len(set(found)) == len(found)
    assert {"☃", "😀"} <= set(found)
    assert "一" not in found
    assert not {chr(code) for code in (*tool.FLAGS, *tool.SKIN_TONES, *tool.HAIR)} & set(found)


class ColorFont:
    """A font where runner, surfer and no other of a block have one glyph for each skin tone and gender."""

    def getlength(self, text: str) -> float:
        return 1.0 if text[0] in "🏃🏄" else float(len(text))


def test_women_and_men_are_drawn_where_the_font_has_one_glyph_for_them(tool, monkeypatch):
    monkeypatch.setattr(tool, "EMOJI_BLOCKS", (range(0x1F3C2, 0x1F3C6),))  # snowboarder, runner, surfer, medal
    monkeypatch.setattr(tool, "drawn", lambda font, texts: iter(texts))
    woman, man = tool.GENDERS
    found = {one for one in tool.emoji(ColorFont(), people=True) if one.endswith(tool.GENDERS)}
    assert found == {"🏃" + woman, "🏃" + man, "🏄" + woman, "🏄" + man}
    toned = {one for one in tool.emoji(ColorFont(), skin_tones=True, people=True) if one.endswith(tool.GENDERS)}
    assert toned == found | {one[0] + chr(tone) + one[1:] for one in found for tone in tool.SKIN_TONES}


@pytest.mark.parametrize(("background", "mode"), [("white", "RGB"), ("alpha", "RGBA")])
def test_an_emoji_fills_a_square_on_its_background(tool, background, mode):
    font = ImageFont.truetype(FONT, tool.BITMAP_SIZE)
    image = tool.emoji_image(font, "☃", 32, background)
    assert image.mode == mode
    assert image.size == (32, 32)
    corner = image.getpixel((0, 0))
    assert corner == (255, 255, 255) if background == "white" else corner[3] == 0


def test_the_folder_is_data_for_training(tool, unihan, tmp_path):
    out = tmp_path / "kanji"
    unihan.write_text("".join(f"U+{code:04X}\tkJoyoKanji\t2010\n" for code in range(0x41, 0x5B)))
    tool.main(["kanji", str(FONT), "--out", str(out), "--unihan", str(unihan)])
    data = open_data(str(out))
    assert data.train.shape[1:] == (1, 32, 32)
    assert len(data.train) + len(data.test) == 26


def test_an_existing_folder_and_a_missing_list_are_refused_with_what_to_type(tool, tmp_path):
    with pytest.raises(SystemExit, match="name a new folder with --out"):
        tool.main(["kanji", str(FONT), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"install unicode-data.*--list jis1"):
        tool.main(["kanji", str(FONT), "--out", str(tmp_path / "new"), "--unihan", str(tmp_path / "none.txt")])


def test_the_code_of_the_page_draws_samples_above_their_nearest_training_images(tool, unihan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unihan.write_text("".join(f"U+{code:04X}\tkJoyoKanji\t2010\n" for code in range(0x41, 0x5B)))
    tool.main(["kanji", str(FONT), "--out", "kanji", "--unihan", str(unihan)])
    known = Images(open_data("kanji").train[:16].movedim(1, 3).numpy())
    monkeypatch.setattr(kk, "load", lambda path: SimpleNamespace(sample=lambda n, seed: known[:n]))  # copies only
    (code,) = blocks("docs/showpieces.md", "python")
    exec(compile(code, "docs/showpieces.md", "exec"), {})
    upper, lower = np.split(np.array(Image.open("nearest.png"))[1:-1], 2)
    assert (upper == lower).all()
    assert upper.std() > 10


@pytest.mark.parametrize("words", [["nothing.ttf"], [str(FONT), "--size", "2"]])
def test_a_font_that_cannot_be_used_is_one_line_and_leaves_no_folder(tool, unihan, tmp_path, words):
    out = tmp_path / "kanji"
    with pytest.raises(SystemExit, match=r"^\S+ cannot be used as a font of \d+ pixels .*--size$"):
        tool.main(["kanji", *words, "--out", str(out), "--unihan", str(unihan)])
    assert not out.exists()
