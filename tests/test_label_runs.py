"""Runs of models of labels: trained, sampled by name, evaluated and used as classifiers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import call, seeded
from kakusan.data import ImageOptions, open_data
from kakusan.errors import InputError
from kakusan.models.labels import Labels
from kakusan.models.mixture import Mixture
from kakusan.recipes import find
from kakusan.run.bayes import classify
from kakusan.run.build import build, start_at, training_loss, training_terms
from kakusan.run.families.conditional import label_lines, labels_of
from kakusan.run.families.conv import ConvHierarchyConfig, ConvVAEConfig
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.labels import cond_of, index_of, indices_of

NAMES = ("cat", "dog")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """120 images of 8 x 8: cats are bright on the left, dogs at the top."""
    root, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    for name in NAMES:
        (root / name).mkdir(parents=True)
        for number in range(60):
            image = rng.integers(0, 50, (8, 8)).astype(np.uint8)
            half = np.s_[:, :4] if name == "cat" else np.s_[:4]
            image[half] += 200
            Image.fromarray(image).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run of a few steps with early weights, so that both kinds of guidance are there."""
    settings = {"size": 8, "width": 8, "inner_width": 16, "blocks": 1, "depth": 10, "batch": 16}
    return kk.train("mnist-ddpm", data=photos, steps=10, out=tmp_path_factory.mktemp("runs") / "run", **settings)


def test_class_folders_are_the_condition_without_a_flag(run):
    assert run.recipe.model.condition == "labels"
    assert run.model.classes == NAMES
    assert isinstance(run.model.chain.classes, Labels)
    assert run.model.chain.classes.null == 2
    assert run.model.chain.classes.share.sum().item() == pytest.approx(1)


def test_samples_are_drawn_by_the_name_of_a_class_and_i_depends_on_the_seed_and_i_alone(run):
    whole = run.model.sample(5, seed=3, label="dog", guidance=2.0, steps=4)
    part = run.model.sample(2, seed=3, label=1, guidance=2.0, steps=4, first=3)
    assert np.array_equal(whole[3:], part)
    mixed = run.model.sample(seed=3, label=["cat", "cat", "cat", "dog", "dog"], guidance=2.0, steps=4)
    assert np.array_equal(mixed[3:], whole[3:])
    assert not np.array_equal(mixed[:3], whole[:3])
    assert not np.array_equal(whole, run.model.sample(5, seed=3, label="dog", steps=4))


@catches("""run/labels.py: each starts with the first class in every batch
- return (first + torch.arange(n)) % len(classes)
+ return torch.arange(n) % len(classes)""")
def test_all_classes_in_turn_depend_on_the_number_of_the_sample_alone():
    assert cond_of(NAMES, "each", 3, first=5).tolist() == [1, 0, 1]
    assert cond_of(("a", "each"), "each", 2).tolist() == [1, 1]  # a class of that name
    with pytest.raises(InputError, match="no class True"):
        cond_of(NAMES, True, 1)


def test_the_command_draws_each_class_in_turn_and_writes_their_names(run, tmp_path, capsys):
    code, out, err = call(capsys, "sample", run.path, "-n", 4, "--steps", 2, "--out", tmp_path / "s")
    assert code == 0, err
    assert out.split() == [str(tmp_path / "s" / name) for name in ("samples.png", "samples.npy", "labels.csv")]
    assert (tmp_path / "s" / "labels.csv").read_text() == "name,label\n0,cat\n1,dog\n2,cat\n3,dog\n"
    flags = ["--label", "dog", "--guidance", 2, "--autoguidance", 1.5, "--steps", 2, "--out", tmp_path / "d"]
    code, _, err = call(capsys, "sample", run.path, "-n", 2, *flags)
    assert code == 0, err
    data = open_data(
        tmp_path / "s" / "samples.npy", ImageOptions(labels=str(tmp_path / "s" / "labels.csv")), whole=True
    )
    assert data.classes == NAMES


def test_an_evaluation_has_the_bound_given_labels_the_bound_of_the_data_and_the_accuracy(run, capsys):
    code, out, err = call(capsys, "evaluate", run.path, "--classified", 6, "--repeats", 1, "--json")
    assert code == 0, err
    found = json.loads(out)
    given, classes = found["given_labels"], found["classes"]
    assert given["bits_per_dim"] == pytest.approx(found["bits_per_dim"] - found["terms"]["class"])
    assert found["terms"]["class"] == pytest.approx(1 / 64, abs=2e-3)  # one bit for two equally common classes
    assert classes["num_labeled"] == classes["num_examples"] == 6
    assert 0 <= classes["accuracy"] <= 1 < classes["network_evaluations"]
    assert classes["accuracy_standard_error"] > 0


@catches("""run/summary.py: a bound above that of uniform noise is no caution
- if model.measured_in == "gray levels" and bits_per_dim > LEVELS_BITS and floor_bits(model) is None:
+ if False:""")
def test_classes_of_an_untrained_model_come_with_a_caution_and_the_errors_of_their_log_odds(run, photos):
    found = classify(run.path, str(photos), limit=3, evaluations=8)
    assert "train longer" in found.lines()[0]
    probs = found.found.probs.sort(descending=True).values
    assert_close(found.found.log_odds, (probs[:, 0] / probs[:, 1]).log())


def test_data_are_classified_with_the_names_of_their_files(run, photos, capsys):
    code, out, err = call(capsys, "classify", run.path, photos, "--limit", 3, "--evaluations", 8)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "name,label,probability,log_odds,log_odds_stderr"
    assert [line.split(",")[0] for line in lines[1:]] == ["cat/0.png", "cat/1.png", "cat/10.png"]
    odds, stderr = (float(cell) for cell in lines[1].split(",")[3:])
    assert odds >= 0
    assert stderr >= 0
    code, out, err = call(capsys, "classify", run.path, "--limit", 2, "--evaluations", 8, "--json")
    assert code == 0, err
    assert [sum(one["probabilities"]) for one in json.loads(out)["examples"]] == pytest.approx([1, 1])


@catches("""run/evaluation_data.py: arrays are to be cropped to the size of a folder of training images
- .pictures, size=None, channels=None)
+ .pictures)""")
def test_a_model_of_a_folder_scores_arrays_of_its_size_and_refuses_a_table(run, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.full((2, 8, 8), 90, np.uint8))
    code, _, err = call(capsys, "encode", run.path, tmp_path / "x.npy", "--steps", 2, "--out", tmp_path / "z.npy")
    assert code == 0, err
    assert np.load(tmp_path / "z.npy").shape == (2, 1, 8, 8)
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{row}.5,{row % 3}\n" for row in range(40)))
    code, _, err = call(capsys, "encode", run.path, tmp_path / "t.csv", "--out", tmp_path / "t.npy")
    assert code == 2
    assert "was trained on examples of shape (1, 8, 8)" in err


def test_an_exported_file_knows_the_names_of_the_classes(run, tmp_path, capsys):
    code, _, err = call(capsys, "export", run.path, "--out", tmp_path / "m.safetensors")
    assert code == 0, err
    model = kk.load(tmp_path / "m.safetensors")
    assert model.classes == NAMES
    assert np.array_equal(model.sample(2, label="cat", steps=2), run.model.sample(2, label="cat", steps=2))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"label": "bird"}, "no class 'bird'; its classes are cat, dog"),
        ({"label": 2}, "no class 2"),
        ({"label": "cat", "guidance": -1.0}, "at least 0"),
        ({"label": ["cat", "dog", "cat"]}, "2 samples need as many labels, got 3"),
    ],
)
def test_a_label_or_scale_that_makes_no_sense_is_refused(run, choices, words):
    with pytest.raises(InputError, match=words):
        run.model.sample(2, steps=2, **choices)


def test_a_classifier_refuses_a_path_a_wrong_shape_and_a_seed_in_words(run):
    pixels = np.zeros((2, *run.model.event_shape), np.uint8)
    with pytest.raises(InputError, match=r"open_data\('new/'\)\.test"):
        run.model.classify("new/")
    with pytest.raises(InputError, match=r"\(n, (\d), (\d+), (\d+)\) or \(n, \2, \3, \1\)"):
        run.model.classify(pixels[:, :, 1:])
    for seed in (1.5, "2", True):
        with pytest.raises(InputError, match="seed must be a whole number"):
            run.model.classify(pixels, seed=seed)


@catches("""run/families/conditional.py: a family without labels leaves them out in silence
- if not dataset.classes or not own_data:
+ if not dataset.classes or not own_data or not config.conditional:""")
@catches("""run/families/conv.py: a convolutional VAE takes no labels
- class ConvConfig(ConditionalConfig):
+ class ConvConfig(__import__("kakusan.run.families.base").run.families.base.ModelConfig):""")
def test_the_recipes_own_data_keep_their_clusters_and_other_labels_are_named():
    digits, config = open_data("mnist"), find("mnist-ddpm").model
    assert config.for_labels(digits) is config
    assert label_lines(config, digits, own_data=False) == []
    assert "--model.condition labels" in label_lines(config, digits, own_data=True)[0]
    assert "--model.condition labels" in label_lines(find("vae").model, digits, own_data=True)[0]
    unused = label_lines(find("counts-dirichlet").model, digits, own_data=True)
    assert unused == ["labels of 10 classes are not used: this model takes none"]
    chosen = DiffusionConfig(clusters=128, condition="labels").for_labels(digits)
    assert (chosen.classes, chosen.clusters, chosen.num_conditions) == (tuple("0123456789"), 0, 11)


def test_labels_that_are_wanted_and_not_there_are_refused():
    data = open_data("mnist", ImageOptions(labels="none"))
    with pytest.raises(InputError, match="put images into one subfolder for each class"):
        DiffusionConfig(condition="labels").for_labels(data)
    with pytest.raises(InputError, match=r"add --model\.clusters"):
        DiffusionConfig(condition="clusters").for_labels(data)
    with pytest.raises(InputError, match="lacks the label 9"):
        DiffusionConfig(condition="labels", classes=tuple("012345678")).for_labels(open_data("mnist"))


SMALL = {
    "diffusion": DiffusionConfig(width=8, inner_width=16, blocks=1, depth=20),
    "vae": VAEConfig(hidden=(16,), latent=3),
    "weighted vae": VAEConfig(hidden=(16,), latent=3, importance_samples=3),
    "hierarchy": HierarchyConfig(hidden=16, latents=(4, 3)),
    "convolutional vae": ConvVAEConfig(width=8, latent=3),
    "convolutional hierarchy": ConvHierarchyConfig(width=8, maps=1, latents=(3,), upper_hidden=8),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("few", [False, True])
def test_every_family_trains_on_labels_and_on_a_few_of_them(photos, tmp_path, name, few):
    data = open_data(photos)
    if few:
        data.train_cond[10:] = -1
    config = SMALL[name].for_labels(data)
    assert (config.clusters > 0) == few
    module, labels = build(config, data.event_shape), labels_of(config, data, "train")
    assert isinstance(module, Mixture)
    start_at(module, config, data.train, labels=labels)
    losses = training_loss(module, config, data.train, labels=labels)(torch.arange(20), seeded(0))
    losses.mean().backward()
    assert losses.shape == (20,)
    assert losses.isfinite().all()
    other = training_loss(module, config, data.train, labels=1 - labels.clamp(min=0))(torch.arange(20), seeded(0))
    if name != "diffusion":  # its last layer is zero before the first step
        assert not torch.allclose(losses[:10], other[:10])


@catches("""run/build.py: the terms of a batch have the labels of the first examples
- classes.completed(x, labels[indices])
+ classes.completed(x, labels[: len(indices)])""")
def test_the_terms_of_a_labeled_batch_sum_to_its_loss():
    config, data = (
        VAEConfig(hidden=(5,), latent=2, condition="labels", classes=NAMES),
        torch.arange(96, dtype=torch.uint8),
    )
    module, pixels, labels = build(config, (1, 2, 3)), data.view(16, 1, 2, 3), torch.arange(16) // 8
    start_at(module, config, pixels, labels=labels)
    for number, parameter in enumerate(module.parameters()):
        torch.nn.init.normal_(parameter, std=0.5, generator=seeded(number))
    rows = torch.tensor([12, 3, 9])
    loss = training_loss(module, config, pixels, labels=labels)(rows, seeded(1))
    terms = training_terms(module, config, pixels, rows, seeded(1), labels=labels)
    assert_close(-sum(value for name, value in terms.items() if name != "class") / 6, loss)


def test_the_notes_form_of_the_third_term_refuses_labels(photos):
    config = HierarchyConfig(third_term="notes").for_labels(open_data(photos))
    with pytest.raises(InputError, match="leave third_term exact"):
        build(config, (1, 8, 8))


def test_labels_become_indices_and_unknown_ones_are_named_with_the_first_twenty_classes():
    assert indices_of(NAMES, ["dog", "", "cat"]).tolist() == [1, -1, 0]
    assert indices_of(NAMES, torch.tensor([5])).tolist() == [5]
    assert (index_of(NAMES, "dog"), index_of(NAMES, 0), index_of(NAMES, 1)) == (1, 0, 1)
    assert cond_of(NAMES, 1, 3).tolist() == [1, 1, 1]
    assert cond_of(NAMES, ["dog", "cat"], 2).tolist() == [1, 0]
    for label in (-1, 2, False, "each"):
        with pytest.raises(InputError, match=r"the model has no class .*its classes are cat, dog$"):
            index_of(NAMES, label)
    many = [f"class{k}" for k in range(21)]
    with pytest.raises(
        InputError, match=r"no class 'klass20'; did you mean 'class20'\? its classes are class0, .*class19, \.\.\.$"
    ):
        index_of(many, "klass20")
    with pytest.raises(InputError, match=r"class18, class19$"):
        index_of(many[:20], 20)
    for label in ("each", "cat", 0):
        with pytest.raises(InputError, match="this model is not conditional on labels; omit the label"):
            cond_of((), label, 2)


def test_the_use_of_labels_is_told_with_ten_names_and_the_unlabeled_examples():
    names = tuple(f"c{k}" for k in range(11))
    config = DiffusionConfig(condition="labels", classes=names, clusters=1024)
    data = SimpleNamespace(train_cond=torch.tensor([0, -1, -1, 3]), classes=names)
    assert label_lines(config, data, own_data=True) == [
        "conditional on 11 classes: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, ...",
        "2 unlabeled examples get labels from up to 1,024 clusters of all examples",
    ]
    config = DiffusionConfig(condition="labels", classes=names[:10])
    data.train_cond = None
    assert label_lines(config, data, own_data=True) == [
        "conditional on 10 classes: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9"
    ]
    one = SimpleNamespace(train_cond=None, classes=("x",))
    assert label_lines(DiffusionConfig(), one, own_data=True) == ["all labels are x, so they are not used"]


@pytest.mark.parametrize(
    ("clusters", "labels", "settings", "wanted"),
    [
        (0, [0, 1], {}, ("labels", 0)),
        (0, [0, -1], {}, ("labels", 1024)),
        (2000, [0, -1], {}, ("labels", 2000)),
        (5, [0, 1], {"condition": "clusters"}, ("clusters", 5)),
        (5, [0, 1], {"condition": "none"}, ("none", 5)),
    ],
)
def test_a_few_labels_are_passed_on_through_at_least_1024_clusters(clusters, labels, settings, wanted):
    data = SimpleNamespace(train_cond=torch.tensor(labels), classes=NAMES, labeled_by="folders", name="x")
    config = DiffusionConfig(clusters=clusters, **settings).for_labels(data)
    assert (config.kind_of_condition, config.clusters) == wanted
    assert config.num_conditions == {"labels": 3, "clusters": 5, "none": 0}[wanted[0]]
    assert VAEConfig(condition="labels", classes=NAMES).num_conditions == 2
