"""Every setting of a family changes its networks, its loss, its samples or its bound: none is read and then ignored."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from harness.faults import catches
from kakusan.recipes import find
from kakusan.run.build import build, start_at, training_loss
from kakusan.run.families import FAMILIES
from kakusan.run.families.base import DRAWS
from kakusan.run.families.conv import ConvHierarchyConfig, ConvVAEConfig
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.dirichlet import DirichletConfig
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.learned_noise import LearnedNoiseConfig
from kakusan.run.families.tables import TableConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.families.values import SeriesConfig, TableDiffusionConfig
from kakusan.run.trained_model import TrainedModel

IMAGES = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LARGER = torch.randint(0, 256, (60, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
COUNTS = torch.randint(0, 9, (60, 5), generator=torch.Generator().manual_seed(0)).double()
SERIES = torch.randn(60, 16, 2, generator=torch.Generator().manual_seed(0))
UNET = {"width": 8, "inner_width": 8, "blocks": 1, "depth": 6}
GUIDED = {"condition": "labels", "classes": ("a", "b"), "guidance": 2.0}
CHAIN_SETTINGS = {
    "depth": 7, "schedule": "linear", "prediction": "eps", "variance": "beta", "objective": "single",
    "focus": (-2.0, 0.5), "focus_share": 0.1, "time": "table", "blocks": 2,
}  # fmt: skip
# for each family: data, settings of a small model, and another value for each setting
CASES = {
    DiffusionConfig: (
        IMAGES,
        UNET,
        CHAIN_SETTINGS
        | {
            "condition": "clusters", "clusters": 2, "likelihood": "gaussian", "network": "classic", "width": 16,
            "inner_width": 16, "fold": 1, "refine": 4, "begin": 4,
        },
    ),
    VAEConfig: (
        IMAGES,
        {"hidden": (6, 4), "latent": 3},
        {"hidden": (4, 6), "latent": 4, "likelihood": "bernoulli", "activation": "tanh",
         "importance_samples": 3, "condition": "clusters", "clusters": 2},
    ),
    HierarchyConfig: (
        IMAGES,
        {"hidden": 6, "latents": (3, 2)},
        {"hidden": 7, "upper_hidden": 5, "layers": 2, "latents": (2, 3), "likelihood": "discretized",
         "variance": "learned", "activation": "tanh", "third_term": "notes",
         "importance_samples": 3, "condition": "clusters", "clusters": 2},
    ),
    ConvVAEConfig: (
        LARGER,  # with two levels
        {"width": 8, "latent": 3},
        {"width": 16, "blocks": 2, "likelihood": "gaussian", "importance_samples": 2, "latent": 4, "condition": "clusters",
         "clusters": 2},
    ),
    ConvHierarchyConfig: (
        LARGER,
        {"width": 8, "latents": (3,), "upper_hidden": 5, "maps": 1},
        {"width": 16, "blocks": 2, "likelihood": "gaussian", "importance_samples": 2, "maps": 2, "latents": (4,),
         "upper_hidden": 6, "condition": "clusters", "clusters": 2},
    ),
    LearnedNoiseConfig: (
        IMAGES,
        {"depth": 2, "width": 8, "blocks": 1, "inner_width": 8},
        {"depth": 3, "encoder": "noise", "network": "unet", "width": 16, "blocks": 2},
    ),
    DirichletConfig: (COUNTS, {}, {"concentration": 1.5, "learn_concentration": True}),
    SeriesConfig: (
        SERIES,
        {"width": 8, "blocks": 1, "depth": 6, "centers": (0.0, 0.0), "scales": (1.0, 1.0)},
        CHAIN_SETTINGS | {"width": 16, "centers": (1.0, 0.0), "scales": (2.0, 1.0), "condition": "clusters", "clusters": 2},
    ),
}  # fmt: skip
# settings that need others: (family, setting) -> what the small model has besides
NEEDS = {
    (DiffusionConfig, "label_dropout"): (GUIDED, 0.3),
    (DiffusionConfig, "classes"): (GUIDED, ("a", "b", "c")),
    (DiffusionConfig, "end_log_snr"): ({"depth": 40}, -1.0),
    (SeriesConfig, "end_log_snr"): ({"depth": 40}, -1.0),
    (DiffusionConfig, "patch"): ({"network": "convnext"}, 2),
    (DiffusionConfig, "inner_width"): ({}, 16),
    (VAEConfig, "residual"): ({"hidden": (6, 6)}, True),
    (HierarchyConfig, "residual"): ({"layers": 2}, True),
    (LearnedNoiseConfig, "inner_width"): ({"network": "unet"}, 16),
    (LearnedNoiseConfig, "patch"): ({"network": "convnext"}, 2),
}
# held elsewhere: memory and not results, names alone, or settings of other tests
ELSEWHERE = {"checkpointing", "guidance", "classes", "label_dropout", "guidance_range", "plan", "label"}


def traced(kind, settings, data):
    """Shapes of the weights, the parameters that learn, the loss, samples and the bound of a model with random weights."""
    config = kind(**settings)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a chain of six steps
        module = build(config, tuple(data.shape[1:]))
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(len(data)) % len(config.classes) if getattr(config, "classes", ()) else None
    start_at(module, config, data, "none", labels)
    with torch.no_grad():
        for parameter in module.parameters():
            if kind is not DirichletConfig:  # its parameters are counts
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    shapes["learn"] = tuple(name for name, value in module.named_parameters() if value.requires_grad)
    loss = training_loss(module, config, data, "none", labels)(torch.arange(8), torch.Generator().manual_seed(2))
    recipe = dataclasses.replace(find("mnist-vae"), model=config)
    model = TrainedModel(recipe, module, tuple(data.shape[1:]), torch.device("cpu"))
    bound = model.evaluate(data[:4]).nats if model.family.has_bound else 0.0
    samples = np.asarray(model.sample(3, seed=0))
    return shapes, [loss.detach().double().numpy(), samples, np.array(bound)]


def cases():
    for kind, (_, base, others) in CASES.items():
        yield from ((kind, name, base, value) for name, value in others.items() if (kind, name) not in NEEDS)
    for (kind, name), (needed, value) in NEEDS.items():
        yield kind, name, CASES[kind][1] | needed, value


@pytest.mark.parametrize(
    ("kind", "name", "base", "value"), [pytest.param(*one, id=f"{one[0].__name__}-{one[1]}") for one in cases()]
)
def test_every_setting_of_a_family_changes_its_model(kind, name, base, value):
    data = CASES[kind][0]
    if name == "clusters":
        base = base | {"condition": "clusters", "clusters": 1}
    if name == "condition":
        base, value = base | {"clusters": 2, "condition": "none"}, "clusters"
    shapes, found = traced(kind, base, data)
    other_shapes, other = traced(kind, base | {name: value}, data)
    same = shapes == other_shapes and all(a.shape == b.shape for a, b in zip(found, other))
    assert not same or not all(np.array_equal(a, b) for a, b in zip(found, other))


def test_these_are_all_settings_of_all_families():
    for kind, (_, _, others) in CASES.items():
        known = {field.name for field in dataclasses.fields(kind)}
        needed = {name for family, name in NEEDS if family is kind}
        assert known - set(others) - needed - ELSEWHERE == set(), kind
    tested = {kind.family for kind in CASES} | {TableConfig.family, TableDiffusionConfig.family}
    assert {"diffusers", "table-diffusion"} | tested >= set(FAMILIES)


@catches("""run/families/vae.py: a decoder's layers have the encoder's order
- config.hidden[::-1]
+ config.hidden""")
def test_the_decoder_of_a_vae_has_the_encoders_layers_in_reverse_order():
    weights = build(VAEConfig(hidden=(6, 4), latent=3), (1, 8, 8)).state_dict()
    shapes = [tuple(value.shape) for name, value in weights.items() if name.startswith("decoder") and value.dim() == 2]
    assert shapes[:2] == [(4, 3), (6, 4)]
    shapes = [tuple(value.shape) for name, value in weights.items() if name.startswith("encoder") and value.dim() == 2]
    assert shapes[:2] == [(6, 64), (4, 6)]


def of_random_weights(config, data):
    recipe = dataclasses.replace(find("mnist-vae"), model=config)
    module = build(config, tuple(data.shape[1:]))
    return TrainedModel(recipe, module, tuple(data.shape[1:]), torch.device("cpu"))


@catches("""run/families/hierarchy.py: the forms of the third term count half of their network evaluations
- DRAWS, 2 * chain.depth, words, seed)
+ DRAWS, chain.depth, words, seed)""")
def test_the_cost_of_both_forms_of_the_third_term_is_every_call_of_an_encoder_and_a_decoder():
    model = of_random_weights(HierarchyConfig(hidden=6, latents=(3, 2)), IMAGES)
    forms = model.family.details(model, IMAGES[:4], seed=0)["third_term"]
    assert {form: one["network_evaluations"] for form, one in forms.items()} == dict.fromkeys(
        ("exact", "notes"), 4 * DRAWS * 4
    )


@catches("""run/families/dirichlet.py: only the first thousand examples of counts are evaluated
- (torch.arange(len(data))))
+ (torch.arange(min(len(data), 1000))))""")
def test_all_examples_of_counts_are_evaluated():
    model, counts = of_random_weights(DirichletConfig(), COUNTS), COUNTS.repeat(30, 1)
    assert model.evaluate(counts).num_images == len(counts) == 1800


@catches("""run/families/hierarchy.py: both forms of the third term are called the ELBO
- {words[form]}
+ {words['exact']}""")
def test_each_form_of_the_third_term_has_its_name():
    numbers = {"bits_per_dim": 1.0, "standard_error": 0.1, "nats": 2.0}
    exact, notes = FAMILIES["hierarchy"]().detail_lines({"third_term": {"exact": numbers, "notes": numbers}})
    assert exact.endswith("the ELBO")
    assert notes.endswith("the study notes' form of the third term")
