"""Scales of pixel values: their ends, and values beyond them."""

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from kakusan.data.scale import SIGNED, UNIT


@catches("""data/scale.py: pixels run to 256
- TOP = 255
+ TOP = 256""")
@pytest.mark.parametrize("scale", [SIGNED, UNIT])
def test_black_and_white_are_the_ends_of_a_scale_and_levels_one_bin_apart(scale):
    levels = scale.to_model(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)).flatten()
    assert levels[0] == scale.low
    assert levels[-1] == scale.high
    assert scale.bin_width == pytest.approx((scale.high - scale.low) / 255, rel=1e-15)
    assert_close(levels.diff(), torch.full((255,), scale.bin_width), rtol=0, atol=1e-6)  # float32 near one


@catches("""data/scale.py: values beyond white come back dark
- .round().clamp(0, TOP)
+ .round()""")
@pytest.mark.parametrize("scale", [SIGNED, UNIT])
def test_values_beyond_black_and_white_become_black_and_white(scale):
    width = scale.high - scale.low
    beyond = torch.tensor([scale.low - width / 4, scale.high + width / 4]).view(1, 1, 1, 2)
    assert scale.to_pixels(beyond).flatten().tolist() == [0, 255]
