"""Labels of tables and series: a column that is the condition, exact classes of a linear world, and whole runs of all families."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import F64, call, seeded
from kakusan.columns import Column
from kakusan.data import ImageOptions, open_data
from kakusan.data.cautions import cautions
from kakusan.data.table_columns import fitted
from kakusan.data.table_scale import TableScale
from kakusan.likelihood.classes import posterior
from kakusan.models.labels import Labels
from kakusan.models.mixture import Mixture
from kakusan.nets.class_shift import ClassShift
from kakusan.nets.conv import ConvDecoder, ConvEncoder
from kakusan.run.evaluate import evaluate
from kakusan.run.families.tables import TableConfig, start_at_rows, table_vae

SETTINGS = {
    "vae": {"width": 8, "latent": 3},
    "hvae": {"width": 8, "maps": 1, "latents": (3,), "upper_hidden": 8},
    "tables": {"hidden": (8,)},
    "tables-diffusion": {"width": 16, "blocks": 1, "depth": 8},
    "series": {"width": 8, "blocks": 2, "depth": 8},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Small labeled data of each form: images in class folders, a table with a column of labels, series with labels."""
    root, rng = tmp_path_factory.mktemp("labeled"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "images" / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(rng.integers(0, 255, (9, 8)).astype(np.uint8)).save(
                root / "images" / name / f"{number}.png"
            )
    rows = [f"{1.5 + k % 3 + rng.normal():.3f},{'abc'[k % 3]},{rng.integers(9)}" for k in range(60)]
    (root / "table.csv").write_text("\n".join(["height,kind,age", *rows, ""]))
    y = rng.integers(0, 2, 40)
    np.savez(root / "series.npz", x=rng.normal(size=(40, 12, 2)) + y[:, None, None], y=y)
    return root


FLAGS = {
    "vae": ("images", {}),
    "hvae": ("images", {}),
    "tables": ("table.csv", {"labels": "kind"}),
    "tables-diffusion": ("table.csv", {"labels": "kind"}),
    "series": ("series.npz", {"model.condition": "labels"}),
}


@pytest.mark.parametrize("recipe", FLAGS)
def test_every_recipe_trains_on_labels_samples_a_class_evaluates_and_classifies(recipe, data, tmp_path, capsys):
    name, flags = FLAGS[recipe]
    settings = {f"model.{key}": value for key, value in SETTINGS[recipe].items()}
    run = kk.train(recipe, data=data / name, steps=2, out=tmp_path / "run", **settings, **flags)
    classes = run.model.classes
    assert isinstance(run.model.chain, Mixture)
    assert classes == {"images": ("cat", "dog"), "table.csv": ("a", "b", "c"), "series.npz": ("0", "1")}[name]
    code, out, err = call(capsys, "sample", run.path, "-n", 2, "--label", classes[1], "--out", tmp_path / "s")
    assert code == 0, err
    assert (tmp_path / "s" / "labels.csv").read_text() == f"name,label\n0,{classes[1]}\n1,{classes[1]}\n"
    code, out, err = call(capsys, "evaluate", run.path, "--json", "--repeats", 1)
    assert code == 0, err
    found = json.loads(out)
    assert found["given_labels"]["bits_per_dim"] < found["bits_per_dim"]
    assert (
        found["classes"]["num_labeled"]
        == found["classes"]["num_examples"]
        == {"images": 2, "table.csv": 6, "series.npz": 4}[name]
    )
    code, out, err = call(capsys, "classify", run.path, data / name, "--limit", 2, "--evaluations", 4)
    assert code == 0, err
    assert out.splitlines()[0] == "name,label,probability,log_odds,log_odds_stderr"


@catches("""data/label_column.py: the labels stay among the features
- kept = [k for k in range(len(columns)) if k != place]
+ kept = [*range(len(columns))]""")
def test_a_column_of_labels_is_the_condition_and_no_feature(data, tmp_path):
    table = open_data(data / "table.csv", ImageOptions(labels="kind"))
    assert [column.name for column in table.columns] == ["height", "age"]
    assert (table.classes, table.labeled_by, table.label_column) == (("a", "b", "c"), "column kind", "kind")
    whole = open_data(data / "table.csv", ImageOptions(labels="kind"), whole=True)
    assert whole.train is whole.test
    rows = (data / "table.csv").read_text().splitlines()[1:]
    assert [whole.classes[k] for k in whole.train_cond] == [row.split(",")[1] for row in rows]


def test_labels_may_be_whole_numbers_and_missing(tmp_path):
    cells = "".join(f"{k}.25,{'' if k == 3 else k % 3}\n" for k in range(30))
    (tmp_path / "t.csv").write_text(f"x,y\n{cells}")
    table = open_data(tmp_path / "t.csv", ImageOptions(labels="y"), whole=True)
    assert table.classes == ("0", "1", "2")
    assert table.train_cond.tolist() == [-1 if k == 3 else k % 3 for k in range(30)]
    array = np.stack([np.arange(30) + 0.25, np.arange(30) % 3], 1)
    np.save(tmp_path / "t.npy", array)
    assert open_data(tmp_path / "t.npy", ImageOptions(labels="column2")).classes == ("0", "1", "2")
    np.savez(tmp_path / "t.npz", x=array + 0.5, y=np.arange(30) % 3)
    assert open_data(tmp_path / "t.npz").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("x", "labels are text or whole numbers"),
        ("kin", "is neither a column nor a file; did you mean 'kind'"),
        ("folders", "is for a folder of images"),
    ],
)
def test_a_column_that_cannot_be_labels_is_refused(tmp_path, labels, words):
    (tmp_path / "t.csv").write_text("x,kind\n" + "".join(f"{k}.25,{'ab'[k % 2]}\n" for k in range(30)))
    with pytest.raises(kk.InputError, match=words):
        open_data(tmp_path / "t.csv", ImageOptions(labels=labels))


@catches("""run/train.py: the name of a column is recorded as a path
- if not dataset.label_column:
+ if True:""")
@catches("""data/forms/tables.py: a table of samples lacks its labels
- table |= {} if labels is None else {labels[0]: labels[1]}
+ pass""")
def test_samples_come_back_with_their_column_of_labels_and_other_tables_may_lack_it(
    data, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = kk.train("tables", data=data / "table.csv", steps=1, labels="kind", out="run", **{"model.hidden": (4,)})
    assert run.recipe.pictures.labels == "kind"
    code, _, err = call(capsys, "sample", "run", "-n", 3, "--out", "s")
    assert code == 0, err
    lines = (tmp_path / "s" / "samples.csv").read_text().splitlines()
    assert lines[0] == "height,age,kind"
    assert [line.split(",")[2] for line in lines[1:]] == ["a", "b", "c"]
    kk.export("run", "m.safetensors")
    for model in ("run", "m.safetensors"):
        code, out, err = call(capsys, "classify", model, "s/samples.csv", "--evaluations", 4, "--json")
        assert code == 0, err
        assert json.loads(out)["num_labeled"] == 3
    (tmp_path / "new.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    code, out, err = call(capsys, "classify", "run", "new.csv", "--evaluations", 4, "--json")
    assert code == 0, err
    assert "num_labeled" not in json.loads(out)


@catches("""data/label_column.py: a label keeps its leading zeros
- return str(int(number)) if whole else cell
+ return cell""")
@catches("""run/families/tables.py: numbers are labels in training alone
- of_column(dataset, config.label, config.classes)
+ of_column(dataset, config.label)""")
@pytest.mark.parametrize(
    ("cells", "types", "others"),
    [
        (("01", "02", "03"), None, ("02", "1")),  # three whole numbers are integers, and two are categories
        (("1.5", "2.0", "2.5"), "y=categorical", ("2.5", "2")),  # the type is not recorded
    ],
)
def test_another_file_of_the_same_labels_has_the_same_classes(tmp_path, capsys, cells, types, others):
    def table(name, cells):
        rows = "".join(f"{k}.25,{k * k}.5,{cells[k % len(cells)]}\n" for k in range(30))
        (tmp_path / name).write_text(f"x,z,y\n{rows}")
        return tmp_path / name

    flags = {} if types is None else {"pictures.columns": types}
    settings = {"model.hidden": (4,), "labels": "y"}
    run = kk.train("tables", data=table("t.csv", cells), steps=1, out=tmp_path / "run", **settings, **flags)
    for other in (cells, others):
        code, out, err = call(capsys, "classify", run.path, table("o.csv", other), "--evaluations", 2, "--json")
        assert code == 0, err
        assert json.loads(out)["num_labeled"] == 30


@catches("""data/forms/tables.py: a copy of the labels may be a feature
- elif _repeats(values, dataset.train_cond):
+ elif False:""")
def test_a_column_that_repeats_the_labels_is_told(tmp_path):
    rows = "".join(f"{k}.25,{'abc'[k % 3]},{'abc'[k % 3]},{k % 3 + 1},{k % 2}\n" for k in range(300))
    (tmp_path / "t.csv").write_text(f"x,y,y,code,half\n{rows}")
    found = cautions(open_data(tmp_path / "t.csv", ImageOptions(labels="y")))
    assert [line.split("column ")[1].split(" of")[0] for line in found] == ["y.2", "code"]
    assert "--columns y.2=skip" in found[0]
    assert not cautions(open_data(tmp_path / "t.csv", ImageOptions()))


@catches("""run/families/conditional.py: a single class may be conditioned on
- if len(dataset.classes) == 1:
+ if False:""")
def test_labels_of_one_class_are_told_and_not_used(tmp_path, capsys):
    rows = "".join(f"{k}.25,{k * k}.5,red\n" for k in range(30))
    (tmp_path / "t.csv").write_text(f"x,z,y\n{rows}")
    words = ["train", "tables", "--data", tmp_path / "t.csv", "--labels", "y", "--steps", 1, "--out", tmp_path / "run"]
    code, _, err = call(capsys, *words, "--model.hidden", 4)
    assert code == 0, err
    assert "1 class from column y" in err
    assert "all labels are red, so they are not used" in err


@catches("""run/evaluate.py: the levels of a table are in another unit than its terms
- aligned(self._rate(part.bits_per_dim, part.standard_error))
+ format(part.bits_per_dim, 'z10.4f')""")
def test_levels_of_a_table_have_the_unit_of_its_terms(data, tmp_path):
    settings = {f"model.{key}": value for key, value in SETTINGS["tables-diffusion"].items()}
    run = kk.train("tables-diffusion", data=data / "table.csv", steps=1, out=tmp_path / "run", **settings)
    found = evaluate(run.path, repeats=40)
    numbers = {line.split()[0]: float(line.split()[1]) for line in found.lines() if line.startswith("  diffusion")}
    levels = [line for line in found.lines() if line.startswith("    t = ")]
    assert all("nats per row" in line for line in levels)
    total = sum(float(line.split("nats")[0].split()[-3]) for line in levels)
    assert total == pytest.approx(numbers["diffusion"], abs=0.02)


MEANS = 0.4 * torch.tensor([[0.0, 1, -1, 0.5], [2, -1, 0, 0], [-1, 0, 1.5, -2]], dtype=F64)


@catches("""run/families/tables.py: the encoder does not know the means of the classes
- encoder.set_shift(-shift
+ encoder.set_shift(0 * shift""")
@catches("""run/families/tables.py: factors are found among rows that are not centered by class
- around[:, at] -= (shares @ shift[:, at]) * seen
+ around[:, at] -= 0 * (shares @ shift[:, at]) * seen""")
def test_a_table_of_classes_starts_as_the_exact_model_of_gaussians_with_common_covariance():
    k = torch.arange(600) % 3
    weight = torch.randn(4, 2, generator=seeded(1), dtype=F64)
    x = torch.randn(600, 2, generator=seeded(2), dtype=F64) @ weight.T + MEANS[k]
    x = x + 0.5 * torch.randn(600, 4, generator=seeded(3), dtype=F64)
    columns = fitted(tuple(Column(f"c{n}") for n in range(4)), x, shapes=False)
    y = TableScale(columns, F64).to_model(x)
    vae = table_vae(columns, TableConfig(condition="labels", classes=tuple("abc"), hidden=(4,), latent=3)).double()
    start_at_rows(vae, y, F.one_hot(k, 3).double())
    vae.eval()
    decoder, scale = vae.decoder, torch.tensor([column.scale for column in columns], dtype=F64)
    loading = scale[:, None] * decoder.linear.weight.detach()
    cov = loading @ loading.T + torch.diag(scale.square() * decoder.log_var.detach().exp())
    means = torch.stack([x[k == one].mean(0) for one in range(3)])
    within = (x - means[k]).T @ (x - means[k]) / len(x)
    assert_close(cov, within, rtol=0.03, atol=0.03)  # one factor more than there are
    each = [torch.distributions.MultivariateNormal(mean, cov).log_prob(x) for mean in means]
    with torch.no_grad():
        for one, exact in enumerate(each):
            assert_close(kk.elbo(vae, y, seeded(0), cond=torch.full((600,), one)), exact, rtol=1e-6, atol=1e-5)
        found = posterior(Mixture(vae, Labels(3, (4,))), lambda rows: y[rows], 60, most=64)
    exact, top = torch.stack(each, 1)[:60].softmax(1), found.probs.topk(2).indices
    odds = [probs.gather(1, top).log().diff()[:, 0] for probs in (found.probs, exact)]
    assert ((odds[0] - odds[1]).abs() < 5 * found.stderr).all()  # 16 draws or more: a false alarm in 1 of 150 seeds
    assert 0 < exact.amax(1).min() < 0.7  # some rows are ambiguous


def test_categories_start_at_their_frequencies_in_each_class():
    columns = (Column("c", "categorical", categories=("u", "v")), Column("x"))
    k = torch.arange(40) % 2
    code = (torch.arange(40) % 8 < 2).double() * k  # v in half of class 1, and never in class 0
    y = TableScale(columns, F64).to_model(torch.stack([code, torch.linspace(-1, 1, 40, dtype=F64)], 1))
    vae = table_vae(columns, TableConfig(condition="labels", classes=("p", "q"), hidden=(4,), latent=1)).double().eval()
    start_at_rows(vae, y, F.one_hot(k, 2).double())
    share = vae.decode(torch.zeros(2, 1, dtype=F64), 1, torch.tensor([0, 1])).mean[:, 1]
    counts = torch.tensor([code[k == one].sum() for one in range(2)], dtype=F64)
    assert_close(share, (counts + 1) / 22, rtol=1e-6, atol=0)


@catches("""nets/class_shift.py: a class shifts nothing
- return h if self.table is None else h + self.table(cond).view(-1, *self.shape)
+ return h""")
def test_a_shift_behind_a_linear_layer_is_a_one_hot_class_at_its_input():
    shift, linear = ClassShift(3, (5,)), torch.nn.Linear(2, 5)
    joined = torch.nn.Linear(5, 5)
    joined.weight.data = torch.cat([linear.weight, shift.table.weight.T], 1)
    joined.bias.data = linear.bias
    x, k = torch.randn(7, 2), torch.arange(7) % 3
    assert_close(shift(linear(x), k), joined(torch.cat([x, F.one_hot(k, 3)], 1)))


@pytest.mark.parametrize("latents", [(3,), (2, 5, 4)])
def test_convolutions_take_classes_and_refuse_a_condition_that_does_not_fit(latents):
    encoder, decoder = ConvEncoder((1, 9, 8), latents, 8), ConvDecoder(latents, (1, 9, 8), 8)
    x = torch.randn(2, 1, 9, 8)
    before = set(encoder.state_dict()) | set(decoder.state_dict())
    assert not any("shift" in name for name in before)  # files of models without classes load
    for network, given in ((encoder, x), (decoder, encoder(x)[0])):
        with pytest.raises(kk.InputError, match="unconditional"):
            network(given, torch.tensor([0, 1]))
    known = ConvEncoder((1, 9, 8), latents, 8, num_classes=2)
    with pytest.raises(kk.InputError, match="class-conditional on 2 classes"):
        known(x)
    assert not torch.equal(known(x, torch.tensor([0, 1]))[0], known(x, torch.tensor([1, 0]))[0])


@catches("""data/label_column.py: labels of 16 digits are rounded
- and abs(number) < LARGEST_INTEGER
+ and abs(number) <= LARGEST_INTEGER""")
def test_labels_of_many_digits_stay_as_they_are(tmp_path):
    names = ("9007199254740993", "9007199254740995", "17")
    rows = "".join(f"{k}.25,{names[k % 3]}\n" for k in range(30))
    (tmp_path / "t.csv").write_text(f"x,y\n{rows}")
    table = open_data(tmp_path / "t.csv", ImageOptions(labels="y", columns="y=categorical"), whole=True)
    assert set(table.classes) == set(names)
