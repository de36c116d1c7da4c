"""The ladder from a VAE to a DDPM: each rung is the model that it says, its bound is exact, and the last is `Diffusion`."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import F64, SMALL_BETAS, assert_mean, call, f64, seeded, status
from kakusan.bound import sample_path
from kakusan.cli.train import _parser as parser_of
from kakusan.cli.train import _wanted as typed_run
from kakusan.errors import Stopped
from kakusan.models.learned_noise import LearnedNoise
from kakusan.oracles import GaussianWorld
from kakusan.recipes import find
from kakusan.run.build import build, scale_of
from kakusan.run.evaluate import evaluate
from kakusan.run.families.learned_noise import LearnedNoiseConfig, schedule_of
from kakusan.run.ladder import OBSERVED, RUNGS, Wanted, _flags, _in_all, distance_words, latent_bits, lines, read
from kakusan.run.recipe import from_record
from kakusan.run.report.ladder_words import ENGLISH, JAPANESE

SHAPE = (1, 4, 4)
EXACT = {"rtol": 0.0, "atol": 1e-12}
FLAGS = ["--steps", "1", "--limit", "20", "--samples", "0"]


def pixels(n):
    """Values on the 256-level grid of [-1, 1]."""
    return torch.randint(0, 256, (n, *SHAPE), generator=seeded(1)).double() / 127.5 - 1


def small(**changes):
    """Rung four with random weights, also in the layers that start at 0."""
    model = build(LearnedNoiseConfig(width=8, blocks=1, **changes), SHAPE).double()
    for number, parameter in enumerate(model.parameters()):
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(number))
    return model


# Each rung is its model


def test_all_rungs_give_probabilities_of_the_same_pixels():
    configs = [rung.chosen().model for rung in RUNGS]
    assert {config.likelihood for config in configs} == {"discretized"}
    scales = [scale_of(config) for config in configs]
    assert {(scale.low, scale.high, scale.binary) for scale in scales} == {(-1.0, 1.0, False)}


def test_the_latents_of_each_rung_are_those_that_its_words_say():
    models = [build(rung.chosen().model, (1, 8, 8)) for rung in RUNGS]
    assert [type(model).__name__ for model in models] == [
        "VAE", "HierarchicalVAE", "HierarchicalVAE", "LearnedNoise", "LearnedNoise", "Diffusion",
    ]  # fmt: skip
    assert [model.depth for model in models] == [1, 2, 8, 8, 8, 1000]
    for model, rung in zip(models, RUNGS):
        x = torch.ones(1, 1, 8, 8)
        if model.depth < 1000:
            sizes = [z[0].numel() for z in sample_path(model, x)[1:]]
            assert all(size == 64 for size in sizes) == ("data-sized" in rung.latents)
    assert [model.encoder is None for model in models[3:5]] == [False, True]


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_a_rung_is_a_recipe_that_a_record_brings_back(rung):
    recipe = rung.chosen()
    assert from_record(json.loads(json.dumps(recipe.record()))) == recipe


# Its bound


def scalar_hierarchy(depth):
    """A chain z_{t-1} = w_t z_t + c_t + noise of two independent coordinates, with its exact encoders, and its data."""
    weights, shifts = (torch.randn(depth, 2, generator=seeded(k), dtype=F64) for k in (1, 2))
    noise = f64([0.3 + 0.1 * t for t in range(depth)])  # variances of x, z_1, ..., z_{L-1}
    mean, var, encoders, decoders = torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64), [], []
    for w, c, v in reversed(list(zip(weights, shifts, noise))):
        total = w.square() * var + v
        gain, left, above, below = var * w / total, var * v / total, mean, w * mean + c

        def encoder(z, gain=gain, left=left, above=above, below=below):
            return above + gain * (z - below), left.log().expand_as(z)

        def decoder(z, w=w, c=c, v=v):
            return w * z + c, v.log().expand_as(z)

        encoders.insert(0, encoder)
        decoders.insert(0, decoder)
        mean, var = below, total
    return encoders, decoders, GaussianWorld(mean, var.diag())


@catches("""models/hierarchical_vae.py: an encoder gets the latent of its own level [8]
- output = evaluate(self.encoders[t - 1], z, cond=cond)
+ output = evaluate(self.encoders[max(t - 2, 0)], z, cond=cond)""")
@pytest.mark.parametrize("depth", [1, 2, 8])
def test_the_bound_of_the_first_three_rungs_is_log_p_of_x_in_a_linear_world(depth):
    encoders, decoders, world = scalar_hierarchy(depth)
    chain = (
        kk.VAE(encoders[0], decoders[0], 2) if depth == 1 else kk.HierarchicalVAE(encoders, decoders, [2] * depth)
    ).double()
    x = world.sample(5, seeded(3))
    for seed in range(3):  # every path of an exact chain
        assert_close(kk.elbo(chain, x, seeded(seed)), world.log_prob(x), rtol=0, atol=1e-9)


@catches("""models/learned_noise.py: the fixed encoder keeps the whole signal
- noise = self.chain.encode(z, t, cond)
+ noise = Normal(z, self.chain.encode(z, t, cond).std)""")
def test_the_bound_of_fixed_noise_is_the_exact_one_of_a_gaussian_world():
    betas, world = f64(SMALL_BETAS), GaussianWorld([0.3, -0.2], [[0.25, 0.1], [0.1, 0.4]])
    chain = LearnedNoise(kk.Diffusion(world.network(betas, "v"), kk.Schedule.from_betas(betas), 2, "v").double())
    x = f64([[0.7, -1.0]])
    draws = kk.elbo(chain, x.expand(20_000, 2), seeded(4))
    assert_mean(draws[:, None], world.bound(x, betas).elbo)  # 4.5 s.e.


# The hinge


def by_hand(model, noise_only):
    """The chain written out as lists of functions."""
    chain, schedule = model.chain, model.chain.schedule

    def encoder(t):
        beta = schedule.beta[t]
        if noise_only:
            return lambda z: ((1 - beta).sqrt() * z, beta.log().expand_as(z))

        def up(z):
            shift, v = model.encoder(z, torch.full((len(z),), t))
            return (1 - beta).sqrt() * z + beta.sqrt() * shift, beta.log() + (2 * v - 1) * math.log(100)

        return up

    def decoder(t):
        def down(z):
            prediction, v = chain.denoiser(z, torch.full((len(z),), t))
            x = schedule.signal[t] * z - schedule.noise[t] * prediction
            low, high = schedule.log_beta_tilde[t], schedule.log_beta[t]
            mean = schedule.mean_coef_x[t] * x + schedule.mean_coef_z[t] * z
            return mean, v * high + (1 - v) * low

        return down

    levels = range(1, model.depth + 1)
    nets = [encoder(t) for t in levels], [decoder(t) for t in levels]
    return kk.HierarchicalVAE(*nets, [SHAPE] * model.depth, "discretized", SHAPE).double()


@catches("""models/learned_noise.py: the encoder's variance has half of its range [learned]
- noise.log_var + (2 * v - 1) * WIDEST
+ noise.log_var + (v - 0.5) * WIDEST""")
@pytest.mark.parametrize("encoder", ["learned", "noise"])
def test_both_rungs_as_large_as_the_data_are_hierarchical_vaes(encoder):
    model, x = small(depth=3, encoder=encoder), pixels(3)
    other = by_hand(model, encoder == "noise")
    path = sample_path(model, x, seeded(2))
    assert_close(sample_path(other, x, seeded(2)), path, **EXACT)
    assert_close(kk.log_weight(other, path), kk.log_weight(model, path), rtol=1e-13, atol=1e-12)


@pytest.mark.proves("S32", "S33", "S34")
@catches("""run/families/learned_noise.py: the levels run from noise to data
- alpha_bar = torch.linspace(*LOG_SNR, depth, dtype=torch.float64).sigmoid()
+ alpha_bar = torch.linspace(*LOG_SNR, depth + 1, dtype=torch.float64).sigmoid()[1:]""")
def test_the_rung_of_fixed_noise_is_a_diffusion_model_of_the_same_weights():
    model, x = small(depth=4, encoder="noise"), pixels(3)
    log_snr = f64([10.0, 4.0, -2.0, -8.0])
    alpha_bar = 1 / (1 + (-log_snr).exp())
    betas = 1 - alpha_bar / torch.cat([f64([1.0]), alpha_bar[:-1]])
    diffusion = kk.Diffusion(
        model.chain.denoiser, kk.Schedule.from_betas(betas), SHAPE, "v", "learned", "discretized"
    ).double()
    path = sample_path(diffusion, x, seeded(2))
    assert_close(sample_path(model, x, seeded(2)), path, **EXACT)
    assert_close(kk.log_weight(model, path), kk.log_weight(diffusion, path), rtol=1e-13, atol=1e-12)


def test_the_last_rung_is_a_hierarchical_vae_with_fixed_noise():
    config = dataclasses.replace(RUNGS[-1].chosen().model, depth=100)
    diffusion = build(config, SHAPE).double()
    for number, parameter in enumerate(diffusion.parameters()):
        torch.nn.init.normal_(parameter, std=0.05, generator=seeded(number))
    schedule, beta = diffusion.schedule, diffusion.schedule.beta

    def encoder(t):
        return lambda z: ((1 - beta[t]).sqrt() * z, beta[t].log().expand_as(z))

    def decoder(t):
        def down(z):
            prediction = diffusion.denoiser(z, torch.full((len(z),), t))
            x = (schedule.signal[t] * z - schedule.noise[t] * prediction).clamp(-1, 1)
            mean = schedule.mean_coef_x[t] * x + schedule.mean_coef_z[t] * z
            return mean, schedule.log_beta_tilde[t].expand_as(z)

        return down

    levels = range(1, 101)
    nets = [encoder(t) for t in levels], [decoder(t) for t in levels]
    hierarchy = kk.HierarchicalVAE(*nets, [SHAPE] * 100, config.likelihood, SHAPE).double()
    path = sample_path(diffusion, pixels(2), seeded(5))
    assert_close(sample_path(hierarchy, pixels(2), seeded(5)), path, **EXACT)
    for t in (1, 2, 50, 100):
        one, other = (chain.decode(path[t], t).log_prob(path[t - 1]) for chain in (diffusion, hierarchy))
        assert_close(other, one, rtol=1e-12, atol=1e-12)
    # a sum of 200 terms of up to 100 nats
    assert_close(kk.log_weight(hierarchy, path), kk.log_weight(diffusion, path), rtol=1e-13, atol=1e-11)


@catches("""models/learned_noise.py: an encoder may be a denoiser without a variance
- shift, v = denoiser_output(output, z, True)
+ shift, v = output if isinstance(output, tuple) else (output, torch.zeros_like(z))""")
def test_an_encoder_of_one_tensor_is_refused():
    chain = LearnedNoise(small(depth=2).chain, lambda z, t: z)
    with pytest.raises(kk.InputError, match="pair"):
        chain.encode(pixels(1), 1)


def test_the_learned_encoder_starts_as_fixed_noise():
    torch.manual_seed(0)
    model = build(LearnedNoiseConfig(width=8, blocks=1, depth=3), SHAPE).double()
    for t in (1, 2, 3):
        up, noise = model.encode(pixels(2), t), model.chain.encode(pixels(2), t)
        assert_close(up.mean, noise.mean, **EXACT)
        assert_close(up.log_var, noise.log_var.expand_as(up.log_var), **EXACT)


def test_levels_are_evenly_spaced_in_the_log_snr():
    assert_close(schedule_of(4).log_snr[1:], f64([10.0, 4.0, -2.0, -8.0]), rtol=1e-10, atol=1e-10)


# The command


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    """A finished ladder of one step a rung, and the words that made it."""
    home = tmp_path_factory.mktemp("ladder")
    images = np.random.default_rng(0).integers(0, 256, (120, 4, 4), dtype=np.uint8)
    np.save(home / "tiny.npy", images)
    words = ["ladder", "--data", str(home / "tiny.npy"), "--out", str(home / "out"), *FLAGS]
    assert status(*words) == 0
    return home / "out", words


def test_every_rung_is_a_run_that_can_be_sampled_evaluated_and_reported(ladder, capsys, tmp_path):
    out, _ = ladder
    record = json.loads((out / "ladder.json").read_text())
    for rung in record["rungs"]:
        run = out / rung["run"]
        assert kk.Run(run).finished
        assert call(capsys, "report", str(run), "--out", str(tmp_path / f"{rung['name']}.html"))[0] == 0
    run = str(out / "4-learned-noise")
    assert call(capsys, "sample", run, "-n", "2", "--out", str(tmp_path / "samples"))[0] == 0
    code, text, _ = call(capsys, "evaluate", run, "--limit", "12", "--json")
    assert code == 0
    assert json.loads(text)["bits_per_dim"] == pytest.approx(
        record["rungs"][3]["likelihood"]["bits_per_dim"], rel=1e-12
    )


@catches("""run/families/learned_noise.py: fixed noise counts evaluations of an encoder
- return chain.depth * (1 if chain.encoder is None else 2)
+ return chain.depth * 2""")
@pytest.mark.parametrize(("name", "networks"), [("4-learned-noise", 2), ("5-fixed-noise", 1)])
def test_latents_as_large_as_the_data_can_be_encoded_and_decoded(ladder, capsys, tmp_path, name, networks):
    run, images = ladder[0] / name, ladder[0].parent / "tiny.npy"
    assert call(capsys, "encode", run, images, "--out", tmp_path / "z.npy")[0] == 0
    assert np.load(tmp_path / "z.npy").shape == (120, 8 * 16)
    assert call(capsys, "reconstruct", run, images, "--limit", 3, "--out", tmp_path / "r")[0] == 0
    assert np.load(tmp_path / "r" / "reconstructions.npy").shape == (3, 4, 4, 1)
    found = evaluate(run, limit=12).measured.result
    assert found.network_evaluations == 12 * 2 * 8 * networks  # two draws
    assert "closed form" not in found.estimator
    weighted = evaluate(run, limit=3, importance=4, repeats=1).measured.result
    assert weighted.network_evaluations == 3 * (1 + 15 * 4 if networks == 2 else 8 * 4)


@pytest.mark.parametrize(("number", "rung"), list(enumerate(RUNGS, 1)), ids=[rung.name for rung in RUNGS])
def test_the_command_that_a_rung_records_trains_the_same_recipe(ladder, number, rung):
    path = ladder[0] / f"{number}-{rung.name}"
    program, verb, name, *words = kk.Run(path)._directory.read("run.json")["command"]
    assert (program, verb) == ("kakusan", "train")
    recipe = find(name)
    wanted = typed_run(recipe, parser_of(recipe).parse(words), path).recipe
    assert (wanted.model, wanted.optim) == (rung.chosen().model, rung.chosen().optim)
    assert (wanted.steps, wanted.pictures.labels) == (1, "none")


@catches("""run/ladder.py: the command that continues a ladder is not quoted
- command('ladder', *_flags(wanted))
+ ' '.join(['kakusan ladder', *_flags(wanted)])""")
def test_ctrl_c_ends_the_ladder_with_the_command_that_continues_it(tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "kakusan.run.train.start", lambda wanted, words: seen.append(1) or SimpleNamespace(stopped_by=2)
    )
    code, text, err = call(capsys, "ladder", "--out", str(tmp_path / "my out"), *FLAGS)
    assert (code, text, seen) == (130, "", [1])
    assert f"kakusan ladder --out '{tmp_path / 'my out'}' --steps 1 --limit 20 --samples 0" in err
    assert not (tmp_path / "my out" / "ladder.json").exists()


@catches("""run/ladder.py: Ctrl-C while a rung is measured leaves no word
- except Stopped as stopped:
+ except ZeroDivisionError as stopped:""")
@catches("""run/ladder.py: the command that continues a ladder has rounded minutes
- str(value).removesuffix(".0") if name == "minutes" else str(value))
+ f"{value:g}" if name == "minutes" else str(value))""")
def test_ctrl_c_while_a_rung_is_measured_names_the_command_with_all_digits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kakusan.run.ladder._trained", lambda *_: 0)

    def interrupted(*_):
        raise Stopped(2)

    monkeypatch.setattr("kakusan.run.ladder._measured", interrupted)
    words = ["ladder", "--out", str(tmp_path / "out"), "--minutes", "0.123456789", "--limit", "20"]
    code, text, err = call(capsys, *words)
    assert (code, text) == (130, "")
    assert f"kakusan ladder --out {tmp_path / 'out'} --minutes 0.123456789 --limit 20" in err


def test_the_record_holds_all_terms_and_paired_changes(ladder):
    record = json.loads((ladder[0] / "ladder.json").read_text())
    assert [rung["name"] for rung in record["rungs"]] == [rung.name for rung in RUNGS]
    for rung in record["rungs"]:
        bound = rung["likelihood"]
        assert sum(bound["terms"].values()) == pytest.approx(bound["bits_per_dim"], abs=1e-9)
        assert latent_bits(bound["terms"]) + bound["terms"]["reconstruction"] == pytest.approx(bound["bits_per_dim"])
        assert bound["num_images"] == 12
        assert bound["standard_error"] > 0
    rates = [rung["likelihood"]["bits_per_dim"] for rung in record["rungs"]]
    assert record["rungs"][0]["change"] is None
    assert [rung["change"]["difference"] for rung in record["rungs"][1:]] == pytest.approx(np.diff(rates).tolist())


def test_the_table_has_a_row_for_each_rung(ladder):
    table = list(lines(json.loads((ladder[0] / "ladder.json").read_text())))
    assert len(table) == len(RUNGS) + 2
    assert max(map(len, table)) < 100
    assert "first 12 held-out examples; 1 step each" in table[-1]


def test_the_page_is_one_file_with_every_rung_in_both_languages(ladder, capsys):
    out, words = ladder
    for lang, texts, name in (("en", ENGLISH, "ladder.html"), ("ja", JAPANESE, "ladder-ja.html")):
        assert call(capsys, *words, "--lang", lang)[0] == 0
        page = (out / name).read_text()
        assert f'<html lang="{lang}">' in page
        assert "http" not in page.replace("http://www.w3.org", "")
        assert page.count("data:image/png;base64,") == len(RUNGS)
        for rung in RUNGS:
            assert texts["changes"][rung.name] in page


def test_both_languages_have_the_same_words():
    assert ENGLISH.keys() == JAPANESE.keys()
    for name in ("changes", "pays"):
        assert ENGLISH[name].keys() == JAPANESE[name].keys()


@catches("""run/ladder.py: a finished ladder is measured again
- if (wanted.out / RECORD).exists():
+ if not wanted.out.exists():""")
def test_a_finished_ladder_is_shown_and_left_as_it_is(ladder, capsys):
    out, words = ladder
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    code, text, err = call(capsys, *words, "--json")
    assert code == 0
    assert json.loads(text) == json.loads((out / "ladder.json").read_text())
    assert "is finished" in err
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_interrupted_ladder_continues_with_the_same_numbers(ladder, capsys):
    out, words = ladder
    record = (out / "ladder.json").read_text()
    (out / "ladder.json").unlink()
    (out / "6-ddpm" / "summary.json").rename(out / "6-ddpm" / "summary-kept.json")  # as if killed while measuring
    assert call(capsys, *words)[0] == 0
    one, other = json.loads(record), json.loads((out / "ladder.json").read_text())
    for rung in (*one["rungs"], *other["rungs"]):
        del rung["seconds"]
    assert other == one


@catches("""run/ladder.py: a ladder with another budget is continued [flags0-steps was 1, now 2]
- if before.get(name) != value:
+ if name not in before:""")
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--steps", "2", *FLAGS[2:]], "steps was 1, now 2"),
        ([*FLAGS, "--minutes", "1"], "--minutes or --steps"),
        ([*FLAGS, "--seed", "1"], "seed was 0, now 1"),
        ([*FLAGS[:2], "--limit", "0"], "--limit"),
    ],
)
def test_another_ladder_in_the_same_folder_is_refused_on_one_line(ladder, capsys, flags, reason):
    _, words = ladder
    code, text, err = call(capsys, *words[: -len(FLAGS)], *flags)
    assert (code, text) == (2, "")
    assert reason in err
    assert len(err.strip().splitlines()) == 1


@catches("""run/ladder.py: a folder of something else becomes a ladder
- check_new(wanted.out)
+ pass""")
def test_a_folder_of_something_else_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    code, _, err = call(capsys, "ladder", "--out", str(tmp_path / "mine"), *FLAGS)
    assert code == 2
    assert "exists and is left unchanged" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_data_that_are_no_images_are_refused_by_the_first_rung(tmp_path, capsys):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    code, _, err = call(capsys, "ladder", "--data", str(tmp_path / "table.csv"), "--out", str(tmp_path / "out"), *FLAGS)
    assert code == 2
    assert "needs images" in err


def test_a_plan_depends_on_no_device_and_no_place(tmp_path):
    one, other = Wanted(tmp_path / "a", steps=1), Wanted(tmp_path / "b", steps=1, device="cpu")
    assert one.plan() == other.plan()
    assert one.plan() != Wanted(tmp_path / "a", steps=2).plan()


def test_a_budget_and_its_time_are_told_in_words():
    assert [Wanted(Path("a"), minutes=m).budget for m in (1, 2.5)] == ["1 minute", "2.5 minutes"]
    assert [Wanted(Path("a"), steps=n).budget for n in (1, 2000)] == ["1 step", "2,000 steps"]


def test_a_distance_is_shown_with_its_error_and_nothing_without_one():
    assert distance_words(None) == ""
    found = {"measures": {"frechet_distance_n100": {"value": 1.5, "standard_error": 0.25}}}
    assert distance_words(found) == "1.50 ± 0.25"


def test_the_request_of_a_ladder_is_told_planned_and_typed_again():
    wanted = Wanted(Path("out"), size=(8, 16), minutes=2.0, limit=5, seed=3)
    assert _in_all(wanted) == ", about 12 minutes of training; measuring takes about half as long"
    assert _in_all(Wanted(Path("out"), steps=7)) == ""
    flags = "--out out --size 8x16 --minutes 2 --limit 5 --seed 3"
    assert _flags(wanted) == flags.split()
    assert _flags(Wanted(Path("out"), steps=7)) == ["--out", "out", "--steps", "7"]
    plan = wanted.plan()
    assert {name: plan[name] for name in plan if name != "rungs"} == {
        "data": "mnist", "size": [8, 16], "minutes": 2.0, "steps": None, "limit": 5, "samples": 1000, "seed": 3,
    }  # fmt: skip
    assert list(plan["rungs"]) == ["vae", "two-levels", "levels", "learned-noise", "fixed-noise", "ddpm"]
    assert [rung.latents for rung in RUNGS] == [
        "1 of 32", "2, of 32 and 16", "8, of 32 down to 4", "8, data-sized", "8, data-sized", "1,000, data-sized",
    ]  # fmt: skip
    assert OBSERVED.startswith("the probability of the same 8-bit pixels: a Gaussian, integrated over the bin of each")


def test_every_rung_has_the_settings_of_its_words():
    chosen = {rung.name: rung.chosen() for rung in RUNGS}
    assert chosen["vae"].model.hidden == (512, 512)
    for name, latents in (("two-levels", (32, 16)), ("levels", (32, 28, 24, 20, 16, 12, 8, 4))):
        model, optim = chosen[name].model, chosen[name].optim
        assert (model.latents, model.variance, model.hidden) == (latents, "learned", 512)
        assert (model.upper_hidden, model.layers) == (128, 2)
        assert (optim.lr, optim.weight_decay, optim.warmup, optim.decay) == (5e-4, 0.01, 100, "linear")
        assert (optim.clip, optim.batch, optim.ema) == (1.0, 128, 0.1)
    model, optim = chosen["ddpm"].model, chosen["ddpm"].optim
    assert (model.network, model.width, model.blocks, model.clusters) == ("cosine", 256, 2, 0)
    assert (model.guidance, model.end_log_snr, model.depth) == (1.0, 6.0, 1000)
    assert (optim.method, optim.lr, optim.warmup, optim.batch) == ("adam", 2e-3, 100, 64)
    assert [chosen[name].model.encoder for name in ("learned-noise", "fixed-noise")] == ["learned", "noise"]


def test_the_lines_of_a_ladder_have_every_number_in_its_column():
    bound = {"bits_per_dim": 2.5, "standard_error": 0.25, "terms": {"reconstruction": 2.0}, "num_images": 1200}
    rung = {"name": "vae", "likelihood": bound, "latent_bits_per_dim": 0.5, "change": None, "samples": None}
    measures = {"measures": {"frechet_distance_n10": {"value": 1.0, "standard_error": 0.5}, "recall": {"value": 1}}}
    change = {"difference": -0.125, "standard_error": 0.0625}
    record = {"rungs": [rung, rung | {"change": change, "samples": measures}], "budget": "2 minutes"}
    header, first, second, last = lines(record)
    assert header.split() == ["rung", "bits/dim", "reconstruction", "latents", "change", "distance"]
    assert first.split() == ["1", "vae", "2.500", "±", "0.2500", "2.000", "0.500"]
    assert second.split() == ["2", *first.split()[1:], "-0.125", "±", "0.0625", "1.00", "±", "0.50"]
    assert len(second) == len(header)
    assert last == "on the first 1,200 held-out examples; 2 minutes each; lower is better"


def test_a_damaged_record_of_a_ladder_is_refused(tmp_path):
    for content, words in ((b"[1]", "must hold a table, got list"), (b"{", "cannot be read"), (None, "cannot be read")):
        if content is not None:
            (tmp_path / "ladder.json").write_bytes(content)
        else:
            (tmp_path / "ladder.json").unlink()
        with pytest.raises(kk.InputError, match=f"ladder.json {words}.*; choose another --out"):
            read(tmp_path)
