"""Shapes and sizes of perceptrons, and embeddings of the time step."""

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from kakusan.likelihoods.base import gaussian
from kakusan.nets.mlp import MLP, GaussianMLP
from kakusan.nets.time import TableTime, sinusoids
from kakusan.recipes import RECIPES
from kakusan.run.build import build, count_parameters
from kakusan.run.families.hierarchy import HierarchyConfig

# oracle O25: parameters of the study notes' networks (784, 100, 20)
NOTES = {"encoder1": 82_540, "encoder2": 6_140, "decoder1": 81_284, "decoder2": 4_120}


@pytest.mark.proves("S26")
def test_the_notes_networks_have_their_numbers_of_parameters():
    made = {
        "encoder1": GaussianMLP((1, 28, 28), (100,), (20,)),
        "encoder2": GaussianMLP((20,), (100,), (20,)),
        "decoder1": MLP((20,), (100,), (1, 28, 28), sigmoid=True),
        "decoder2": MLP((20,), (100,), (20,)),
    }
    assert {name: count_parameters(net) for name, net in made.items()} == NOTES


@pytest.mark.proves("S10", "S26", "O25")
@catches("""recipes/mnist_hvae.py: the notes' recipe has a narrow top level
- latents=(20, 20)
+ latents=(20, 10)""")
def test_the_notes_two_level_recipe_has_174084_parameters_and_four_networks():
    model = build(RECIPES["mnist-hvae"].model, (1, 28, 28))
    assert count_parameters(model) == 174_084
    assert len(model.encoders) + len(model.decoders) == 4


@pytest.mark.proves("M12", "O24")
def test_sinusoids_have_the_published_values_and_norm():
    # oracle O24, d = 8, t = 1 and 2
    expected = [
        [0.8414709848078965, 0.5403023058681398, 0.09983341664682815, 0.9950041652780258],
        [0.9092974268256817, -0.4161468365471424, 0.19866933079506122, 0.9800665778412416],
    ]
    e = sinusoids(torch.tensor([1, 2, 999]), 8, torch.float64)
    torch.testing.assert_close(e[:2, :4], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(e.square().sum(1), torch.full((3,), 4.0, dtype=torch.float64))


@pytest.mark.proves("S40", "M12", "O24")
def test_a_table_is_a_one_hot_label_through_a_linear_layer():
    table = TableTime(16, num_steps=5)
    linear = torch.nn.Linear(6, 16, bias=False)
    linear.weight.data = table.table.weight.data.T.clone()
    t = torch.tensor([1, 5, 3])
    torch.testing.assert_close(table(t), linear(torch.nn.functional.one_hot(t, 6).float()), rtol=0, atol=0)
    table(torch.tensor([2])).sum().backward()
    touched = table.table.weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [False, False, True, False, False, False]


@pytest.mark.proves("S26", "O25")
def test_one_level_of_the_notes_networks_has_163824_parameters():  # O25
    assert count_parameters(build(HierarchyConfig(hidden=100, latents=(20,)), (1, 28, 28))) == 163_824


@pytest.mark.proves("S5", "S27", "O6", "O25")
@catches("""nets/mlp.py: both heads of an encoder are one
- self.mean(h).unflatten(1, self.out_shape), self.log_var(h)
+ self.mean(h).unflatten(1, self.out_shape), self.mean(h)""")
def test_an_encoder_is_linear_relu_and_two_linear_heads_and_a_decoder_linear_relu_linear():
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    encoder, decoder = GaussianMLP((6,), (7,), (3,)), MLP((6,), (7,), (3,))
    hidden = (x @ encoder.body[0].weight.T + encoder.body[0].bias).clamp(min=0)
    mean, log_var = encoder(x)
    assert_close(mean, hidden @ encoder.mean.weight.T + encoder.mean.bias)
    assert_close(log_var, hidden @ encoder.log_var.weight.T + encoder.log_var.bias)
    assert_close(gaussian((mean, log_var)).std, (log_var / 2).exp())
    hidden = (x @ decoder.body[0].weight.T + decoder.body[0].bias).clamp(min=0)
    assert_close(decoder(x), hidden @ decoder.out.weight.T + decoder.out.bias)
    pixels = MLP((6,), (7,), (3,), sigmoid=True)
    pixels.load_state_dict(decoder.state_dict())
    assert_close(pixels(x), decoder(x).sigmoid())


@pytest.mark.proves("S27", "O25")
def test_pixels_pass_a_sigmoid_and_latents_do_not():
    model = build(RECIPES["mnist-hvae"].model, (1, 28, 28))
    assert [decoder.sigmoid for decoder in model.decoders] == [True, False]
