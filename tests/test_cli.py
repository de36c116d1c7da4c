"""The commands as a user types them, on small data."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import kakusan
from harness.faults import catches
from harness.support import call
from kakusan.cli import main
from kakusan.cli.arguments import COMMANDS
from kakusan.run.sample import _check_folder

TINY = [
    "--model.width",
    "8",
    "--model.inner-width",
    "8",
    "--model.blocks",
    "1",
    "--model.depth",
    "20",
    "--optim.batch",
    "16",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Bright squares on black, 9 x 7 pixels."""
    rng = np.random.default_rng(0)
    x = np.zeros((120, 9, 7), np.uint8)
    for picture, (row, column) in zip(x, rng.integers(0, 4, (120, 2))):
        picture[row : row + 4, column : column + 3] = 255
    path = tmp_path_factory.mktemp("data") / "squares.npy"
    np.save(path, x)
    return path


@pytest.fixture(scope="module")
def runs(pictures, tmp_path_factory):
    """One finished run of each family."""
    root = tmp_path_factory.mktemp("runs")
    counts = root / "counts.npy"
    np.save(counts, np.random.default_rng(1).multinomial(30, [0.5, 0.3, 0.2], 40))
    for family, arguments in {
        "ddpm": ["mnist-ddpm", "--data", pictures, "--steps", "30", *TINY],
        "vae": ["mnist-vae", "--data", pictures, "--steps", "30", "--model.hidden", "16", "--model.latent", "3"],
        "hvae": [
            "mnist-hvae",
            "--data",
            pictures,
            "--steps",
            "30",
            "--model.hidden",
            "16",
            "--model.latents",
            "4",
            "3",
            "2",
        ],
        "counts": ["counts-dirichlet", "--data", counts, "--steps", "800", "--model.no-learn-concentration"],
    }.items():
        with pytest.raises(SystemExit) as stop:
            main(["train", *map(str, arguments), "--out", str(root / family)])
        assert stop.value.code == 0, family
    return root


@pytest.mark.proves("S1", "S28")
@pytest.mark.parametrize("family", ["ddpm", "vae", "hvae", "counts"])
def test_a_run_holds_what_the_readme_promises(runs, family):
    names = {path.name for path in (runs / family).iterdir()}
    assert {"run.json", "data.json", "history.jsonl", "summary.json", "report.html", "checkpoints"} <= names
    assert ("samples.png" in names) == (family != "counts")
    page = (runs / family / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "the page must not ask the network for anything"
    assert all(re.search(r'alt="[^"]{10,}', tag) for tag in re.findall(r"<img[^>]*>", page))


@pytest.mark.proves("S58", "M13", "O17", "O19", "O23")
@pytest.mark.parametrize("family", ["ddpm", "vae", "hvae", "counts"])
def test_evaluate_json_is_one_object_alone_on_stdout(capsys, runs, family):
    code, out, _ = call(capsys, "evaluate", runs / family, "--json")
    result = json.loads(out)
    assert code == 0
    assert {"bits_per_dim", "standard_error", "nats", "num_images", "num_dims", "network_evaluations", "terms"} <= set(
        result
    )
    assert sum(result["terms"].values()) == pytest.approx(result["bits_per_dim"], rel=1e-9)
    assert result["nats"] / result["num_dims"] / np.log(2) == pytest.approx(result["bits_per_dim"], rel=1e-9)


@pytest.mark.parametrize("family", ["ddpm", "vae", "hvae"])
def test_sample_writes_a_picture_and_an_array(capsys, runs, tmp_path, family):
    code, out, _ = call(capsys, "sample", runs / family, "-n", "5", "--seed", "3", "--out", tmp_path / "s")
    samples = np.load(tmp_path / "s" / "samples.npy")
    assert code == 0
    assert (samples.shape, samples.dtype) == ((5, 9, 7, 1), np.uint8)
    assert "samples.png" in out
    assert np.array_equal(samples, kakusan.load(runs / family).sample(5, seed=3))


def test_samples_are_guided_by_the_runs_beginning_unless_told_otherwise(runs):
    model = kakusan.load(runs / "ddpm")
    assert model.recipe.model.guidance > 1
    default, same, none = (
        model.sample(4),
        model.sample(4, guidance=model.recipe.model.guidance),
        model.sample(4, guidance=1),
    )
    assert np.array_equal(default, same)
    assert not np.array_equal(default, none)


@pytest.mark.parametrize("family", ["ddpm", "vae", "hvae", "counts"])
def test_the_error_is_split_into_what_calls_and_what_examples_lower(capsys, runs, family):
    result = json.loads(call(capsys, "evaluate", runs / family, "--json")[1])
    squares = result["standard_error_monte_carlo"] ** 2 + result["standard_error_images"] ** 2
    # the examples' part is what is left of the whole, and 0 where a stratified whole comes out below its own part
    assert squares >= result["standard_error"] ** 2 * (1 - 1e-9)
    assert result["term_errors"].keys() == result["terms"].keys()
    assert bool(result["levels"]) == (family == "ddpm")
    assert ("latents" in result) == (family in ("vae", "hvae"))
    assert (result["standard_error_monte_carlo"] == 0) == (family == "counts")


def test_a_run_is_compared_with_another_on_the_same_examples(capsys, runs):
    code, out, _ = call(capsys, "compare", runs / "ddpm", runs / "vae", "--json")
    found = json.loads(out)
    first, second = (run["bits_per_dim"] for run in found["runs"].values())
    assert code == 0
    assert found["difference"] == pytest.approx(first - second, rel=1e-9)
    assert found["standard_error"] > 0
    code, out, _ = call(capsys, "compare", runs / "ddpm", runs / "ddpm")
    assert code == 0
    assert "difference +0.0000 ± 0.0000" in out
    assert "needs fewer bits" not in out
    code, out, _ = call(capsys, "compare", runs / "ddpm", runs / "vae")
    fewer = runs / ("ddpm" if first < second else "vae")
    assert f"{fewer} needs fewer bits" in out.splitlines()[-1]


def test_where_many_examples_are_measured_a_line_says_so_before(capsys, runs, monkeypatch):
    monkeypatch.setattr("kakusan.console.MANY", 12)  # the runs hold out 12
    first, second = runs / "vae", runs / "hvae"
    for arguments in (["compare", first, second], ["compare", first, second, "--json"]):
        _, out, err = call(capsys, *arguments)
        assert re.findall("measuring the bound of 12 examples by (.*)\n", err) == [str(first), str(second)]
        assert "measuring" not in out
    assert "measuring the bound of 12 examples\n" in call(capsys, "evaluate", first)[2]
    assert "measuring" not in call(capsys, "compare", first, second, "--limit", "11")[2]


def test_runs_that_measure_different_things_are_not_compared(capsys, runs):
    code, _, err = call(capsys, "compare", runs / "ddpm", runs / "counts")
    assert (code, err.count("\n")) == (2, 1)
    assert "gray levels" in err


def test_a_run_finds_its_data_from_any_folder_and_notices_when_they_changed(capsys, pictures, tmp_path, monkeypatch):
    mine = tmp_path / "mine.npy"
    mine.write_bytes(pictures.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "train", "mnist-ddpm", "--data", "mine.npy", "--steps", "3", *TINY, "--out", "run")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert call(capsys, "evaluate", tmp_path / "run", "--json")[0] == 0
    np.save(mine, np.load(mine)[:, ::-1])
    code, _, err = call(capsys, "evaluate", tmp_path / "run")
    assert code == 2
    assert "has changed" in err


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_used(capsys, runs, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(runs / "vae", run)
    *_, before, newest = sorted((run / "checkpoints").iterdir())
    (newest / name).write_bytes((newest / name).read_bytes()[:20])
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of tests
        code, _, err = call(capsys, "train", "--resume", run, "--steps", 40)
    assert code == 0
    assert f"{newest.name} is damaged ({name} has 20 bytes, expected" in err
    assert f"left as it is; using {before.name}" in err


def test_a_budget_that_is_used_up_already_is_refused(capsys, runs):
    code, _, err = call(capsys, "train", "--resume", runs / "vae", "--steps", 5)
    assert code == 2
    assert "counts from the run's beginning" in err


@pytest.mark.parametrize("seed", [0, 2**70])
def test_any_whole_number_from_0_is_a_seed(capsys, pictures, tmp_path, seed):
    arguments = ["--data", pictures, "--steps", "2", *TINY, "--seed", seed, "--out", tmp_path / "run"]
    assert call(capsys, "train", "mnist-ddpm", *arguments)[0] == 0


def test_a_longer_run_says_all_that_was_typed(capsys, runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "counts", run)
    assert call(capsys, "train", "--resume", run, "--steps", 820)[0] == 0
    assert "--steps 820" in call(capsys, "info", run)[1]
    assert "--steps 820" in (run / "report.html").read_text()


def test_guidance_without_early_weights_is_a_mistake_in_one_line(capsys, pictures, tmp_path):
    arguments = ["--data", pictures, "--steps", "3", *TINY, "--optim.early", "None", "--out", tmp_path / "run"]
    assert call(capsys, "train", "mnist-ddpm", *arguments)[0] == 0
    code, _, err = call(capsys, "sample", tmp_path / "run", "--guidance", "2")
    assert code == 2
    assert "--optim.early 0.1" in err
    assert call(capsys, "sample", tmp_path / "run", "-n", "2", "--out", tmp_path / "s")[0] == 0


def test_sampled_counts_have_the_data_s_total(capsys, runs, tmp_path):
    call(capsys, "sample", runs / "counts", "-n", "4", "--out", tmp_path)
    samples = np.load(tmp_path / "samples.npy")
    assert samples.dtype == np.int64
    assert samples.sum(1).tolist() == [30] * 4


@pytest.mark.proves("S68")
def test_gradient_ascent_ends_at_the_exact_posterior(runs):
    summary = json.loads((runs / "counts" / "summary.json").read_text())
    assert summary["largest_relative_distance_to_exact_posterior"] < 1e-3


@pytest.mark.proves("S29")
@catches("""run/families/hierarchy.py: one form of the third term is shown
- for form, e in details.get("third_term", {}).items()
+ for form, e in [*details.get("third_term", {}).items()][:1]""")
def test_evaluate_names_both_forms_of_the_third_term(capsys, runs):
    _, out, _ = call(capsys, "evaluate", runs / "hvae")
    assert re.search(r"third term exact +\d", out)
    assert re.search(r"third term notes +\d", out)


@pytest.mark.proves("S43", "O13")
def test_evaluate_prints_one_estimate_from_each_of_path_pair_and_single(capsys, runs):
    _, out, _ = call(capsys, "evaluate", runs / "ddpm", "--estimators")
    for name in ("path", "pair", "single"):
        assert re.search(rf"{name} +\d+\.\d+ ± \d", out)


def test_the_importance_bound_is_better_than_the_elbo(capsys, runs):
    plain = json.loads(call(capsys, "evaluate", runs / "vae", "--json")[1])
    weighted = json.loads(call(capsys, "evaluate", runs / "vae", "--json", "--importance", "20")[1])
    assert weighted["bits_per_dim"] < plain["bits_per_dim"]


def test_sample_i_is_sample_i_whatever_the_count(runs):
    model = kakusan.load(runs / "ddpm")
    alone, among = model.sample(1, seed=5, first=7)[0], model.sample(9, seed=5)[7]
    # the noise is the same bit for bit; the network's sums may be ordered otherwise, a level at most
    assert np.abs(alone.astype(int) - among.astype(int)).max() <= 1


def test_a_finished_run_is_left_as_it_is(capsys, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (runs / "vae").rglob("*")}
    assert call(capsys, "train", "mnist-vae", "--out", runs / "vae", "--steps", "5")[0] == 2
    for verb in ("evaluate", "sample", "report", "info"):
        assert call(capsys, verb, runs / "vae")[0] == 0
    assert call(capsys, "train", "--resume", runs / "vae")[0] == 2
    after = {path: path.stat().st_mtime_ns for path in (runs / "vae").rglob("*")}
    assert {p: t for p, t in after.items() if p.name != "lock"} == {p: t for p, t in before.items() if p.name != "lock"}


def test_a_finished_run_goes_on_with_a_larger_budget(capsys, pictures, tmp_path):
    common = ["mnist-vae", "--data", pictures, "--model.hidden", "8", "--model.latent", "2", "--out", tmp_path / "r"]
    assert call(capsys, "train", *common, "--steps", "10")[0] == 0
    assert call(capsys, "train", "--resume", tmp_path / "r", "--steps", "20")[0] == 0
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    history = [json.loads(line)["step"] for line in (tmp_path / "r" / "history.jsonl").read_text().splitlines()]
    assert summary["steps"] == 20
    assert history == sorted(set(history))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "mnist-ddmp"], "did you mean 'mnist-ddpm'"),
        (["train", "mnist-vae", "--seed", "-1"], "--seed must be a whole number of at least 0, got '-1'"),
        (["sample", "x", "--seed=-3"], "--seed must be a whole number of at least 0, got '-3'"),
        (["tarin", "mnist-ddpm"], "did you mean 'train'"),
        (["train", "mnist-ddpm", "--data", "nowhere"], "no data at 'nowhere'"),
        (["train", "mnist-ddpm", "--data", "mnist-labels"], "counts-dirichlet"),
        (["train", "mnist-ddpm", "--steps", "0"], "--steps must be a whole number from 1"),
        (["train", "mnist-ddpm", "--steps", "3", "--minutes", "1"], "expected --minutes or --steps, got both"),
        (
            ["train", "mnist-ddpm", "--model.depth", "0"],
            "--model.depth must be a whole number from 1 to 100,000, got '0'",
        ),
        (["train", "mnist-ddpm", "--model.width", "9"], "multiples of 8"),
        (["train", "mnist-ddpm", "--model.scheduel", "linear"], "--model.schedule"),
        (["train", "mnist-ddpm", "--device", "quantum"], "device must be"),
        (["train", "--resume", "nowhere"], "no run at nowhere"),
        (["train", "--steps", "3"], "expected a recipe first, got '--steps'"),
        (["sample", "nowhere"], "no run at nowhere"),
        (["evaluate", "nowhere", "--json"], "no run at nowhere"),
        (["info", "nowhere"], "nowhere"),
        (["data", "nowhere"], "no data at"),
        (["sample"], "kakusan sample needs"),
        (["train", "mnist-vae", "--stepz", "3"], "no flag --stepz; did you mean --steps?"),
        (["train", "mnist-vae", "--batch", "3"], "did you mean --optim.batch?"),
        (
            ["train", "mnist-vae", "--steps", "abc"],
            "--steps must be a whole number from 1 to 1,000,000,000,000, got 'abc'",
        ),
        (["train", "mnist-vae", "--optim.weight-decay", "-1"], "kakusan: --optim.weight-decay must be a number from 0"),
        (["train", "mnist-vae", "--minutes", "-1"], "kakusan: --minutes must be a number above 0"),
        (["train", "mnist-vae", "--size", "9999"], "kakusan: --size must be"),
        (
            ["train", "--resume", "x", "--model.width", "8"],
            "a run keeps its own data and settings, so --model.width cannot be given; --resume takes --minutes",
        ),
        (["evaluate", "x", "--split", "tset"], "--split must be one of test, train, got 'tset'; did you mean 'test'?"),
        (["sample", "x", "--wolf", "3"], "no flag --wolf; kakusan sample --help"),
        (["sample", "x", "-n"], "needs a value (a whole number of at least 1); "),
        (["evaluate", "x", "--features"], "--features needs a value (text); kakusan evaluate --help lists all flags"),
        (["doctor", "a", "b"], "unexpected argument 'b'; kakusan doctor --help lists all flags"),
        (["sample", "--hlep"], "kakusan sample has no flag --hlep; "),
        (["sample", "x", "-n", "ten"], "-n must be a whole number of at least 1, got 'ten'"),
        (
            ["compare", "x"],
            "kakusan compare needs OTHER (second run, of the same kind of data); kakusan compare --help lists",
        ),
        (["replay", "x"], "kakusan replay needs --step (number of the step, starting at 1); "),
        (["evaluate", "x", "--importance", "0"], "--importance must be a whole number of at least 1, got '0'"),
        (["data", "x", "--channels", "2"], "--channels must be one of 1, 3, 4, got '2'"),
        (["data", "mnist", "--size", "0"], "kakusan: --size must be"),
        (
            ["train", "mnist-vae", "my images.npy"],
            "unexpected argument 'my images.npy'; did you mean --data 'my images.npy'?",
        ),
        (["train", "mnist-few", "runs/demo"], "did you mean --teacher runs/demo?"),
        (["train", "mnist-vae", "--resume", "x"], "--resume takes no recipe; type: kakusan train --resume x"),
        (["train", "mnist-vae", "--optim.groups", "7"], "kakusan: --optim.groups must divide the batch of 128, got 7"),
        (["sample", ""], "RUN must be a path, got ''"),
        (["sample", "x", "--json"], "kakusan sample has no flag --json; kakusan sample --help"),
        (["evaluate", "x", "--json=yes"], "--json takes no value, got 'yes'; type --json alone"),
        (["train", "mnist-vae", "--optim.betas", "0.9"], "--optim.betas must be (a number from 0 to below 1, "),
        (["resume", "x"], "did you mean 'train --resume'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert words in err
    assert err.startswith("kakusan: ")
    assert err.count("\n") == 1
    assert not set(err) & set("│╭╮╰╯─"), "no parser's frame"
    assert out == ""
    assert list(tmp_path.iterdir()) == [], "a mistake leaves nothing behind"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "vae", "--steps", "10"], "diffusion"),
        (["sample", "ddpm", "--steps", "21"], "1..20"),
        (["sample", "ddpm", "--sampler", "euler"], "ancestral, ddim"),
        (
            ["sample", "ddpm", "--sampler", "heun", "--eta", "0.5"],
            "eta is an option of ddim, and heun does not have it",
        ),
        (["sample", "ddpm", "--sampler", "heun", "--churn", "-1"], "churn"),
        (["sample", "ddpm", "--end-log-snr", "101"], "-100..100"),
        (["sample", "hvae", "--end-log-snr", "3"], "diffusion"),
        (["sample", "ddpm", "--spacing", "even"], "karras, log-snr, uniform"),
        (["sample", "hvae", "--spacing", "karras"], "diffusion"),
        (["sample", "ddpm", "-n", "0"], "-n must be a whole number of at least 1"),
        (["evaluate", "ddpm", "--data", "mnist"], "shape"),
        (["evaluate", "ddpm", "--importance", "5"], "VAE"),
        (["evaluate", "vae", "--estimators"], "--estimators is for diffusion models"),
        (["evaluate", "ddpm", "--limit", "0"], "--limit"),
        (["replay", "ddpm", "--step", "2", "--out", "x.jpg"], "must end in .png"),
        (["replay", "ddpm", "--step", "2", "--out", "file/x.png"], "choose another --out"),
        (["replay", "ddpm", "--step", "2", "--out", "file"], "must end in .png"),
        (["replay", "ddpm", "--step", "2", "--out", "taken/x.png"], "taken/x.png exists and is left unchanged; choose"),
        (["sample", "vae", "--out", "file"], "file exists and is not a folder; choose another --out"),
        (["sample", "vae", "--out", "taken"], "taken/samples.npy exists and is left unchanged; choose another --out"),
        (
            ["sample", "vae", "--out", "grid.png"],
            "--out is the folder for samples.png and samples.npy, got grid.png; give",
        ),
        (["sample", "vae", "-n", "100000000000"], "GiB of memory"),
        (["sample", "ddpm", "--label", "a"], "label"),
        (["sample", "ddpm", "--steps", "5000"], "steps"),
        (["reconstruct", "vae", "mnist", "--out", "rec.png"], "--out is the folder for reconstructions.png"),
    ],
)
def test_a_mistake_about_a_run_is_one_line_and_exit_2_and_writes_nothing(
    capsys, runs, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "samples.npy").mkdir(parents=True)
    (tmp_path / "taken" / "x.png").touch()
    verb, family, *rest = arguments
    before = sorted(tmp_path.rglob("*"))
    code, _, err = call(capsys, verb, runs / family, *rest)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_whose_name_is_nearly_right_is_named(capsys, tmp_path, monkeypatch):
    (tmp_path / "runs" / "demo" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    for typed in ("demo", "runs/dmeo", "runs/demo/checkpoints", "runs/demo/run.json/"):
        assert call(capsys, "report", typed)[2].endswith("; did you mean runs/demo?\n")
    assert "did you mean" not in call(capsys, "report", "nowhere")[2]


@pytest.mark.parametrize("verb", [*COMMANDS, "train mnist-few", "train --resume"])
def test_help_is_a_page_as_wide_as_the_terminal(capsys, monkeypatch, verb):
    for columns in (60, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, _ = call(capsys, *verb.split(), "--help")
        assert code == 0
        assert out.startswith(f"usage: kakusan {verb.split()[0]}")
        assert max(len(line) for line in out.splitlines() if "{" not in line and "[" not in line) < columns


def test_help_recipes_and_version_answer_at_once(capsys):
    page = call(capsys, "--help")[1]
    assert all(re.search(rf"^  kakusan {verb}\b", page, re.MULTILINE) for verb in ("train", *COMMANDS))
    assert "mnist-hvae" in call(capsys, "recipes")[1]
    assert call(capsys, "--version")[1].strip() == kakusan.__version__
    assert "--model.third-term" in call(capsys, "train", "mnist-hvae", "--help")[1]


def test_sampling_says_what_it_cost(capsys, runs, tmp_path):
    arguments = ["sample", runs / "ddpm", "-n", "3", "--steps", "6", "--sampler", "heun", "--guidance", "1"]
    assert "11 network evaluations per sample" in call(capsys, *arguments, "--out", tmp_path)[2]  # 2 K - 1
    assert "network evaluation" not in call(capsys, "sample", runs / "vae", "-n", "3", "--out", tmp_path)[2]


def test_an_option_of_a_solver_is_a_flag(capsys, runs, tmp_path):
    arguments = ["sample", runs / "ddpm", "-n", "3", "--steps", "6", "--sampler", "ddim"]
    for eta in ("0.0", "0.5"):
        assert call(capsys, *arguments, "--eta", eta, "--out", tmp_path / eta)[0] == 0
    plain, noisy = (np.load(tmp_path / eta / "samples.npy") for eta in ("0.0", "0.5"))
    model = kakusan.load(runs / "ddpm")
    assert np.array_equal(noisy, model.sample(3, steps=6, solver=kakusan.solvers.DDIM(eta=0.5)))
    assert not np.array_equal(plain, noisy)
    assert "--sampler ddim --steps 6 --eta 0.5" in call(capsys, "info", tmp_path / "0.5" / "samples.png")[1]


@catches("run/sample.py", "if not _held(path))", "if path)", "samples of the same request are refused, not numbered")
def test_samples_are_never_overwritten(capsys, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("samples/vae-seed0-n2", "samples/vae-seed0-n2-2"):
        assert f"{folder}/samples.png\n" in call(capsys, "sample", runs / "vae", "-n", "2")[1]
    code, _, err = call(capsys, "sample", runs / "vae", "-n", "3", "--out", folder)
    assert code == 2
    assert f"{folder}/samples.npy exists and is left unchanged; choose another --out" in err
    assert len(np.load(f"{folder}/samples.npy")) == 2


@catches("""run/sample.py: the trial before sampling leaves an empty folder
- folder.rmdir()
+ pass""")
def test_the_trial_before_sampling_leaves_no_folder(tmp_path):
    _check_folder(tmp_path / "new" / "samples")
    assert list(tmp_path.iterdir()) == []


@catches("""run/info.py: a shape lacks its first dimension
- {entry.shape}
+ {entry.shape[1:]}""")
def test_info_lists_the_tensors_of_any_file_with_their_types_and_shapes(capsys, tmp_path):
    tensors = {"b": torch.zeros(2, 3), "a": torch.zeros(4, dtype=torch.float64)}
    save_file(tensors, tmp_path / "any.safetensors")
    code, out, _ = call(capsys, "info", tmp_path / "any.safetensors")
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert code == 0
    assert lines[-3:-1] == [["a", "float64", "(4,)"], ["b", "float32", "(2, 3)"]]
    assert lines[-1] == ["2", "tensors"]


def test_a_picture_tells_where_it_came_from(capsys, runs, tmp_path):
    call(capsys, "sample", runs / "ddpm", "-n", "4", "--steps", "5", "--end-log-snr", "2", "--out", tmp_path)
    out = call(capsys, "info", tmp_path / "samples.png")[1]
    assert "--steps 5 --end-log-snr 2.0" in out
    assert "kakusan sample" in out
