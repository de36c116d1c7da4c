"""Series: the density in the units of the data, reading, and the whole way of a run."""

import math

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

import kakusan as kk
from harness.faults import catches
from kakusan.data import open_data
from kakusan.data.forms.series import SeriesForm
from kakusan.data.numeric import is_series
from kakusan.data.series_scale import SeriesScale
from kakusan.run.sample import sample


@catches("""data/series_scale.py: the density of a series is one of standardized values
- return math.exp(-sum(map(math.log, self.scales)) / len(self.scales))
+ return 1.0""")
def test_the_correction_turns_the_density_of_standardized_series_into_that_of_series():
    scale = SeriesScale((3.0, -1.0), (2.0, 0.05))
    series = torch.randn(6, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centers, scales = (torch.tensor(each, dtype=torch.float64) for each in (scale.centers, scale.scales))
    exact = torch.distributions.Normal(centers, scales).log_prob(series).sum((1, 2))
    standardized = torch.distributions.Normal(0.0, 1.0).log_prob((series - centers) / scales).sum((1, 2))
    torch.testing.assert_close(standardized + 18 * math.log(scale.bin_width), exact, rtol=1e-12, atol=1e-9)


def test_series_survive_the_way_into_the_model_and_back():
    scale = SeriesScale((3.0, -1.0), (2.0, 0.05))
    series = torch.randn(6, 9, 2, dtype=torch.float64)
    assert scale.to_model(series).shape == (6, 2, 9)
    torch.testing.assert_close(scale.to_series(scale.to_model(series)), series, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shape", "kind"), [((9, 30, 1), "series"), ((9, 8, 3), "series")])
def test_floats_with_a_long_second_axis_are_series(tmp_path, shape, kind):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=shape))
    assert open_data(tmp_path / "x.npy").kind == kind


def test_a_hole_in_a_series_is_refused_with_its_place(tmp_path):
    series = np.zeros((5, 20, 2))
    series[3, 7, 1] = np.nan
    np.save(tmp_path / "x.npy", series)
    with pytest.raises(kk.InputError, match="series 3, time 7, channel 1"):
        open_data(tmp_path / "x.npy")


def test_series_train_and_samples_have_their_shape_and_a_figure(tmp_path):
    np.save(tmp_path / "x.npy", np.cumsum(np.random.default_rng(0).normal(size=(40, 12, 2)), axis=1) * [1, 1000])
    settings = {"model.depth": 20, "model.width": 8, "model.blocks": 2}
    run = kk.train("series", data=str(tmp_path / "x.npy"), steps=3, out=str(tmp_path / "run"), **settings)
    drawn = sample(run.path, 4, out=tmp_path / "samples", steps=5)
    assert drawn.array.shape == (4, 12, 2)
    assert [path.name for path in drawn.files] == ["samples.png", "samples.npy"]
    assert "nats per series" in run.path.joinpath("summary.json").read_text()


@catches("""data/forms/series.py: the figure shows one time of all channels
- samples[:SHOWN, :, channel].T
+ samples[:SHOWN, channel, :].T""")
@catches("""data/forms/series.py: the figure shows the last series
- samples[:SHOWN, :, channel].T
+ samples[-SHOWN:, :, channel].T""")
def test_each_panel_of_a_figure_has_the_first_series_of_its_channel(tmp_path, monkeypatch):
    drawn, samples = [], np.random.default_rng(0).normal(size=(20, 9, 2))
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, y, **style: (drawn.append(y), plot(self, y, **style))[1])
    SeriesForm().save_figure(samples, tmp_path / "x.png")
    assert len(drawn) == 2
    for channel, curves in enumerate(drawn):
        assert np.array_equal(curves, samples[:16, :, channel].T)


@catches("""data/numeric.py: square arrays of numbers are series
- array.shape[1] >= max(SHORTEST, array.shape[2] + 1)
+ array.shape[1] >= SHORTEST""")
def test_series_are_longer_than_their_number_of_channels():
    shapes = [(2, 8, 7), (2, 8, 8), (2, 17, 16), (2, 18, 17), (2, 7, 1), (2, 8, 1)]
    assert [is_series(np.zeros(shape)) for shape in shapes] == [True, False, True, False, False, True]
    assert not is_series(np.zeros((2, 8, 7), np.uint8))
