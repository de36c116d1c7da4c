"""Every setting of a family changes its networks, its loss, its samples or its bound: none is read and then ignored."""

import dataclasses
import warnings
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.recipes import find
from kakusan.run.build import build, start_at, training_loss
from kakusan.run.families import FAMILIES
from kakusan.run.families.base import DRAWS
from kakusan.run.families.conv import ConvHierarchyConfig, ConvVAEConfig
from kakusan.run.families.diffusers import SchedulerSettings, UNetSettings
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.dirichlet import DirichletConfig
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.learned_noise import LearnedNoiseConfig
from kakusan.run.families.tables import TableConfig
from kakusan.run.families.vae import VAEConfig, check_sizes
from kakusan.run.families.values import SeriesConfig, TableDiffusionConfig
from kakusan.run.trained_model import TrainedModel
from kakusan.settings import Between, Length

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


DIFFUSIONS, CONVOLUTIONAL = "diffusion diffusers", "conv-vae conv-hierarchy"
VALUES = f"{DIFFUSIONS} table-diffusion series"
# Of each setting of a number, a text or several values: the values that are allowed, and the families
RANGES = {
    ("clusters", "from 0 to 4,096"): f"{VALUES} vae hierarchy {CONVOLUTIONAL} table-vae",
    ("classes", "0 to 4,096; 1 to 200"): f"{VALUES} vae hierarchy {CONVOLUTIONAL} table-vae",
    ("condition", "none, clusters, labels"): f"{VALUES} vae hierarchy {CONVOLUTIONAL} table-vae",
    ("depth", "from 1 to 100,000"): VALUES,
    ("depth", "from 2 to 100"): "learned-noise",
    ("schedule", "linear, cosine, sigmoid"): VALUES,
    ("prediction", "eps, x, v, mean, score"): VALUES,
    ("variance", "unit, beta, beta_tilde, fixed_large, learned"): DIFFUSIONS,
    ("variance", "beta, beta_tilde, fixed_large, learned"): "table-diffusion series",
    ("variance", "unit, learned"): "hierarchy",
    ("objective", "simple, path, pair, single"): VALUES,
    ("focus", "from -100 to 100; from 0.01 to 100"): VALUES,
    ("focus_share", "from 0 to 1"): VALUES,
    ("label_dropout", "from 0 to below 1"): VALUES,
    ("guidance", "from 1 to 100"): DIFFUSIONS,
    ("guidance_range", "from -100 to 100; from -100 to 100"): VALUES,
    ("end_log_snr", "from -100 to 100"): VALUES,
    ("begin", "from 1 to 100,000"): DIFFUSIONS,
    ("width", "from 8 to 4,096"): f"{VALUES} learned-noise",
    ("width", "from 8 to 1,024"): CONVOLUTIONAL,
    ("inner_width", "from 8 to 4,096"): f"{DIFFUSIONS} learned-noise",
    ("blocks", "from 1 to 32"): f"{VALUES} learned-noise",
    ("blocks", "from 1 to 16"): CONVOLUTIONAL,
    ("patch", "from 1 to 64"): f"{DIFFUSIONS} learned-noise",
    ("fold", "from 1 to 16"): DIFFUSIONS,
    ("refine", "from 0 to 256"): DIFFUSIONS,
    ("time", "sinusoidal, table"): VALUES,
    ("plan", "fixed, data"): DIFFUSIONS,
    ("likelihood", "gaussian, discretized"): DIFFUSIONS,
    ("clip_range", "from 1 to 1,000"): "diffusers",
    ("encoder", "learned, noise"): "learned-noise",
    ("hidden", "1 to 32; from 1 to 65,536"): "vae table-vae",
    ("hidden", "from 1 to 65,536"): "hierarchy",
    ("activation", "relu, tanh, silu"): "vae hierarchy table-vae",
    ("latent", "from 1 to 65,536"): "vae conv-vae table-vae",
    ("importance_samples", "from 1 to 10,000"): f"vae hierarchy {CONVOLUTIONAL} table-vae",
    ("upper_hidden", "from 1 to 65,536"): "hierarchy conv-hierarchy",
    ("layers", "from 1 to 16"): "hierarchy",
    ("latents", "1 to 16; from 1 to 65,536"): "hierarchy",
    ("latents", "1 to 15; from 1 to 65,536"): "conv-hierarchy",
    ("third_term", "exact, notes"): "hierarchy",
    ("maps", "from 1 to 256"): "conv-hierarchy",
    ("dropout", "from 0 to below 1"): "table-vae unet",
    ("columns", "0 to 4,096; 2 to 200,000"): "table-vae table-diffusion",
    ("label", "0 to 1,000"): "table-vae table-diffusion",
    ("centers", "0 to 16; from -1e+150 to 1e+150"): "series",
    ("scales", "0 to 16; above 0 and at most 1e+150"): "series",
    ("concentration", "from 1e-06 to 1e+06"): "dirichlet",
    ("sample_size", "from 1 to 4,096; from 1 to 4,096; from 1 to 4,096"): "unet",
    ("time_embedding_type", "positional, learned"): "unet",
    ("freq_shift", "from 0 to 1"): "unet",
    ("downsample_padding", "from 0 to 1"): "unet",
    ("mid_block_type", "UNetMidBlock2D"): "unet",
    ("block_out_channels", "1 to 12; from 1 to 4,096"): "unet",
    ("layers_per_block", "from 1 to 32"): "unet",
    ("mid_block_scale_factor", "from -1,000 to 1,000"): "unet",
    ("act_fn", "silu, swish, mish, gelu, relu"): "unet",
    ("norm_eps", "above 0 and at most 1"): "unet",
    ("resnet_time_scale_shift", "default, scale_shift"): "unet",
    ("num_train_timesteps", "from 1 to 100,000"): "unet scheduler",
    ("beta_start", "above 0 and below 1"): "scheduler",
    ("beta_end", "above 0 and below 1"): "scheduler",
    ("beta_schedule", "linear, scaled_linear, squaredcos_cap_v2, sigmoid"): "scheduler",
    ("trained_betas", "1 to 100,000"): "scheduler",
    **{
        (name, "from 1 to 4,096"): "unet"
        for name in (
            "in_channels", "out_channels", "time_embedding_dim", "attention_head_dim", "norm_num_groups",
            "attn_norm_num_groups",
        )
    },
    **{(f"{name}_type", "conv, resnet"): "unet" for name in ("downsample", "upsample")},
    **{
        (f"{way.lower()}_block_types", f"1 to 12; {', '.join(f'{kind}' for kind in kinds)}"): "unet"
        for way, sample in (("Down", "Downsample"), ("Up", "Upsample"))
        for kinds in [[
            f"{way}Block2D", f"Attn{way}Block2D", f"Resnet{sample}Block2D", f"Skip{way}Block2D", f"AttnSkip{way}Block2D",
        ]]
    },
}  # fmt: skip


def allowed(kind):
    """Ranges, lengths and choices in a type, from the outside to the inside."""
    if get_origin(kind) is Literal:
        return [", ".join(get_args(kind))]
    own = [repr(one) for one in getattr(kind, "__metadata__", ()) if isinstance(one, Between | Length)]
    return own + [words for part in get_args(kind) for words in allowed(part)]


def test_every_setting_of_every_family_has_its_range():
    found, kinds = {}, {name: family().config for name, family in FAMILIES.items()}
    for family, kind in (kinds | {"unet": UNetSettings, "scheduler": SchedulerSettings}).items():
        known = {field.name for field in dataclasses.fields(kind)}
        for name, hint in get_type_hints(kind, include_extras=True).items():
            by_registry = name == "network" or (name == "likelihood" and family not in DIFFUSIONS.split())
            words = "; ".join(allowed(hint))
            if name in known and words and not by_registry:
                found.setdefault((name, words), set()).add(family)
    assert found == {place: set(families.split()) for place, families in RANGES.items()}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (VAEConfig(importance_samples=1), None),
        (HierarchyConfig(importance_samples=2, third_term="notes"), "importance_samples above 1 need the exact form"),
        (HierarchyConfig(importance_samples=1, third_term="notes"), None),
        (DiffusionConfig(depth=5, begin=6, width=8), r"model\.begin must lie in 1\.\.5, the model's own steps, got 6"),
        (DiffusionConfig(depth=5, begin=5, width=8, inner_width=8, blocks=1), None),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_a_model_is_built(config, words):
    if words is None:
        assert build(config, (1, 8, 8)) is not None
        return
    with pytest.raises(InputError, match=words):
        build(config, (1, 8, 8))


@pytest.mark.parametrize(
    ("sizes", "words"), [({"a": (1,), "b": (2, 0)}, r"b needs .* at least 1, got \(2, 0\)"), ({"a": ()}, "a needs")]
)
def test_sizes_of_layers_are_at_least_one(sizes, words):
    check_sizes(a=(1, 1))
    with pytest.raises(InputError, match=words):
        check_sizes(**sizes)


def test_an_example_has_two_numbers_or_more_and_a_model_no_more_than_two_billion_parameters():
    with pytest.raises(InputError, match=r"2 to [\d,]+ numbers, got the shape \(1, 1, 1\)"):
        build(VAEConfig(), (1, 1, 1))
    assert build(VAEConfig(hidden=(2,), latent=1), (1, 1, 2)) is not None
    with pytest.raises(InputError, match=r"more than 2,000,000,000; make it narrower or shallower"):
        build(VAEConfig(hidden=(44_700, 44_700), latent=1), (1, 1, 2))  # 2 x 44,700^2 is about 4 billion


def test_few_examples_are_estimated_about_a_thousand_times():
    family = FAMILIES["diffusion"]()
    assert [family.repeats(num) for num in (0, 1, 7, 249, 250, 5000)] == [1, 1000, 143, 5, 1, 1]
    assert [FAMILIES["vae"]().repeats(num) for num in (1, 5000)] == [1, 1]


def test_the_log_odds_of_pixels_that_are_never_or_always_set_begin_at_a_thousandth():
    config = VAEConfig(hidden=(2,), latent=1, likelihood="bernoulli")
    module, data = build(config, (1, 1, 3)), torch.tensor([[0, 255, 255], [0, 255, 0]], dtype=torch.uint8)
    start_at(module, config, data.view(2, 1, 1, 3))
    odds = np.log(np.array([0.001, 0.999, 0.5]) / np.array([0.999, 0.001, 0.5]))
    np.testing.assert_allclose(module.decoder.out.bias.detach().numpy(), odds, rtol=0, atol=1e-4)


def test_the_fixed_choices_of_learned_noise_and_of_diffusion_models_of_values_are_these():
    kind = LearnedNoiseConfig
    assert (kind.variance, kind.likelihood, kind.prediction) == ("learned", "discretized", "v")
    assert (kind.time, kind.num_conditions, kind.fold, kind.refine, kind.checkpointing) == (
        "sinusoidal",
        0,
        2,
        0,
        False,
    )
    assert (SeriesConfig.plan, SeriesConfig.begin, SeriesConfig.guidance) == ("fixed", None, 1.0)


def test_each_family_says_what_it_has_and_what_its_training_costs():
    families = {name: family() for name, family in FAMILIES.items()}
    noised = {"diffusion", "diffusers", "table-diffusion", "series"}
    for name, family in families.items():
        assert family.name == name == family.config.family
        assert family.has_bound
        assert family.draws_latents == (name not in noised | {"dirichlet"})
        assert family.closed_form == (name == "dirichlet")
        assert tuple(family.estimators) == (("path", "pair", "single") if name in noised else ())
        assert family.splits_over_threads == (name in noised)
        assert family.config.guided == (name in noised - {"table-diffusion", "series"})
    assert not families["diffusion"].is_cheap(DiffusionConfig(objective="path"))
    assert families["diffusion"].is_cheap(DiffusionConfig(objective="pair"))
    assert families["vae"].is_cheap(VAEConfig())
    student = families["diffusion"].student()
    assert (student.has_bound, student.estimators, student.figures(None, None)) == (False, (), {})
    with pytest.raises(InputError, match="a student has no latents of given examples"):
        student.latents(None)


@pytest.mark.parametrize(
    ("shape", "num", "words", "sizes"),
    [
        ((1, 48, 48), 10, "10 gray images of 48 x 48", (2, 32, 64)),
        ((1, 49, 48), 10, "10 gray images of 49 x 48", (4, 64, 96)),
        ((3, 48, 48), 999, "999 color images of 48 x 48", (2, 32, 64)),
        ((3, 48, 48), 1000, "1,000 color images of 48 x 48", (2, 48, 96)),
        ((2, 160, 160), 1000, "1,000 2-channel images of 160 x 160", (4, 64, 96)),
        ((3, 161, 160), 1000, "1,000 color images of 161 x 160", (8, 96, 128)),
    ],
)
def test_a_u_net_is_planned_by_the_size_the_color_and_the_number_of_images(shape, num, words, sizes):
    family, asked = FAMILIES["diffusion"](), DiffusionConfig(plan="data")
    config, told = family.plan(asked, shape, num)
    assert (config.fold, config.width, config.inner_width, config.refine, config.plan) == (*sizes, 16, "fixed")
    fold, width, inner = sizes
    assert told.startswith(f"network for {words}: U-Net over {fold} x {fold} pixels, {width} and {inner} channels; ")
    own, _ = family.plan(dataclasses.replace(asked, width=40), shape, num)
    assert (own.width, own.inner_width) == (40, inner)
    other = dataclasses.replace(asked, network="convnext")
    assert family.plan(other, shape, num) == (dataclasses.replace(other, plan="fixed"), "")
    assert family.plan(DiffusionConfig(), shape, num) == (DiffusionConfig(), "")
