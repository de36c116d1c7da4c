"""Shapes and sizes of perceptrons, and embeddings of the time step."""

import torch

from kakusan.nets.mlp import MLP, GaussianMLP
from kakusan.nets.time import TableTime, sinusoids
from kakusan.recipes import RECIPES
from kakusan.run.build import build, count_parameters

# oracle O25: parameters of the study notes' networks (784, 100, 20)
NOTES = {"encoder1": 82_540, "encoder2": 6_140, "decoder1": 81_284, "decoder2": 4_120}


def test_the_notes_networks_have_their_numbers_of_parameters():
    made = {
        "encoder1": GaussianMLP((1, 28, 28), (100,), (20,)),
        "encoder2": GaussianMLP((20,), (100,), (20,)),
        "decoder1": MLP((20,), (100,), (1, 28, 28), sigmoid=True),
        "decoder2": MLP((20,), (100,), (20,)),
    }
    assert {name: count_parameters(net) for name, net in made.items()} == NOTES


def test_the_notes_two_level_recipe_has_174084_parameters_and_four_networks():
    model = build(RECIPES["mnist-hvae"].model, (1, 28, 28))
    assert count_parameters(model) == 174_084
    assert len(model.encoders) + len(model.decoders) == 4


def test_sinusoids_have_the_published_values_and_norm():
    # oracle O24, d = 8, t = 1 and 2
    expected = [
        [0.8414709848078965, 0.5403023058681398, 0.09983341664682815, 0.9950041652780258],
        [0.9092974268256817, -0.4161468365471424, 0.19866933079506122, 0.9800665778412416],
    ]
    e = sinusoids(torch.tensor([1, 2, 999]), 8, torch.float64)
    torch.testing.assert_close(e[:2, :4], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(e.square().sum(1), torch.full((3,), 4.0, dtype=torch.float64))


def test_a_table_is_a_one_hot_label_through_a_linear_layer():
    table = TableTime(16, depth=5)
    linear = torch.nn.Linear(6, 16, bias=False)
    linear.weight.data = table.table.weight.data.T.clone()
    t = torch.tensor([1, 5, 3])
    torch.testing.assert_close(table(t), linear(torch.nn.functional.one_hot(t, 6).float()), rtol=0, atol=0)
    table(torch.tensor([2])).sum().backward()
    touched = table.table.weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [False, False, True, False, False, False]
