"""Every option of a command reaches the function that does the work, and every result reaches the exit status."""

import dataclasses
import importlib
import inspect
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.faults import catches
from kakusan.cli import arguments, commands, train
from kakusan.cli.ladder import Ladder
from kakusan.cli.tool_arguments import Encode, Interpolate, Reconstruct, Score
from kakusan.console import counted, minutes
from kakusan.errors import InputError
from kakusan.recipes import RECIPES
from kakusan.run.doctor import Findings

# command, the function that it calls, and values that are no defaults
CALLS = [
    (arguments.Evaluate, "run.evaluate:evaluate", {}),
    (arguments.Classify, "run.bayes:classify", {}),
    (arguments.Compare, "run.compare:compare", {}),
    (Score, "run.tools.score:score", {}),
    (Encode, "run.tools.encode:encode_file", {}),
    (Reconstruct, "run.tools.reconstruct:reconstruct_files", {}),
    (Interpolate, "run.tools.interpolate:interpolate_file", {}),
    (arguments.Replay, "run.replay:replay", {}),
    (arguments.Report, "run.report.page:write_report", {"lang": "ja"}),
    (arguments.Export, "exchange.export:export", {"format": "onnx"}),
    (arguments.CheckAgainst, "exchange.check_against:check_against", {}),
    (arguments.Sample, "run.sample:sample", {"options": {"eta": 0.5}}),
    (arguments.Import, "exchange.import_model:import_model", {}),
]
NAMES = {"import_": "import", "check_against": "check-against"}


def filled(kind, values):
    """A command of which every field has a value of its own that is not its default."""
    given, number = dict(values), 2
    for field in dataclasses.fields(kind):
        if field.name in given:
            continue
        number += 1
        hint = str(field.type)
        if field.name == "json" or "bool" in hint:
            given[field.name] = True
        elif "Path" in hint or field.name in ("run", "first", "second", "out", "folder"):
            given[field.name] = Path(f"file{number}")
        elif any(word in hint for word in ("int", "Count", "Seed", "float")):
            given[field.name] = number
        else:
            given[field.name] = f"word{number}"
    return kind(**given)


@catches("""cli/commands.py: the report is always in English [Report]
- write_report(command.run, command.out, command.lang)
+ write_report(command.run, command.out)""")
@catches("""cli/commands.py: a model is imported on any device [Import]
- command.data, command.device, words)
+ command.data, "auto", words)""")
@catches("""cli/commands.py: options of solvers are not used [Sample]
- choices = {**_without(command, "run", "n", "options"), **command.options}
+ choices = _without(command, "run", "n", "options")""")
@catches("""cli/commands.py: the format of an export is not used [Export]
- export(command.run, command.out, command.format)
+ export(command.run, command.out)""")
@catches("""cli/commands.py: the run of a comparison with diffusers is not used [CheckAgainst]
- check_against(command.against, command.run)
+ check_against(command.against)""")
@pytest.mark.parametrize(("kind", "place", "values"), CALLS, ids=[kind.__name__ for kind, *_ in CALLS])
def test_every_option_of_a_command_reaches_its_function(kind, place, values, monkeypatch, capsys):
    module, _, name = place.partition(":")
    module = importlib.import_module(f"kakusan.{module}")
    signature, seen = inspect.signature(getattr(module, name)), []
    answer = SimpleNamespace(record=dict, examples=list, lines=list, files=[], network_evaluations=0, agrees=True)

    def heard(*given, **named):
        bound = signature.bind(*given, **named).arguments
        seen.append({**bound, **bound.pop("choices", {})})
        return {
            "reconstruct_files": [],
            "encode_file": (3,),
            "export": SimpleNamespace(size=0, path="x", lines=[]),
        }.get(name, answer)

    monkeypatch.setattr(module, name, heard)
    command = filled(kind, values)
    verb = next(verb for verb, one in arguments.COMMANDS.items() if one is kind)
    function = {verb: name for name, verb in NAMES.items()}.get(verb, verb)
    assert getattr(commands, function)(command) == 0
    (found,) = seen
    wanted = vars(command) | (vars(command).get("options") or {})
    for field, value in wanted.items():
        if field not in ("json", "options"):
            assert found.get(field) == value, field


@catches("""cli/commands.py: the ladder has the default minutes besides its steps
- DEFAULT_MINUTES if command.minutes is None and command.steps is None else command.minutes
+ DEFAULT_MINUTES if command.minutes is None else command.minutes""")
def test_every_option_of_a_ladder_reaches_it(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr("kakusan.run.ladder.climb", lambda wanted: seen.append(wanted) or {})
    monkeypatch.setattr(
        "kakusan.run.report.ladder.write_page", lambda out, found, lang: seen.append((out, lang)) or tmp_path
    )
    command = dataclasses.replace(filled(Ladder, {"size": "8x6", "lang": "ja", "minutes": None}), out=tmp_path)
    assert commands.ladder(command) == 0
    wanted, page = seen
    for name in ("data", "out", "steps", "limit", "samples", "seed", "device", "minutes"):
        assert getattr(wanted, name) == getattr(command, name), name
    assert (wanted.size, page) == ((8, 6), (tmp_path, "ja"))
    seen.clear()
    assert commands.ladder(dataclasses.replace(command, steps=None)) == 0
    assert (seen[0].minutes, seen[0].steps) == (2.0, None)


def started(monkeypatch):
    """What is started, or resumed, in place of training."""
    seen = []
    for name in ("start", "resume"):
        monkeypatch.setattr(f"kakusan.run.train.{name}", lambda wanted, *words: seen.append((wanted, *words)))
    monkeypatch.setattr("kakusan.cli.train.concluded", lambda outcome: 0)
    monkeypatch.setattr("kakusan.cli.commands.concluded", lambda outcome: 0)
    return seen


@catches("""cli/train.py: the weights to start from are not used
- return Start(recipe, out, command.seed, device, init=command.init)
+ return Start(recipe, out, command.seed, device)""")
@catches("""cli/train.py: what to do about bad images is not used
- "bad": command.bad_images}
+ "bad": recipe.pictures.bad}""")
@catches("""cli/train.py: the channels are not used
- "channels": command.channels, "bad"
+ "channels": recipe.pictures.channels, "bad\"""")
@catches("""cli/train.py: the types of columns are not used
- columns=command.columns, labels=command.labels)
+ labels=command.labels)""")
@catches("""cli/train.py: the seed of a run is not used
- return Start(recipe, out, command.seed, device, init
+ return Start(recipe, out, 0, device, init""")
def test_every_option_of_train_reaches_the_run(monkeypatch):
    seen = started(monkeypatch)
    flags = {
        "out": "o", "minutes": "3", "seed": "5", "device": "cuda:1", "data": "d", "size": "8x6", "channels": "1",
        "columns": "a=real", "bad-images": "skip", "labels": "none", "init": "i", "model.width": "24",
        "optim.batch": "7",
    }  # fmt: skip
    words = ["images", *(word for name, value in flags.items() for word in (f"--{name}", value))]
    assert train.main(words) == 0
    ((wanted, typed),) = seen
    recipe = wanted.recipe
    assert (wanted.out, wanted.seed, wanted.device, wanted.init) == (Path("o"), 5, "cuda:1", Path("i"))
    assert (recipe.minutes, recipe.steps, recipe.data) == (3.0, None, "d")
    pictures = recipe.pictures
    assert (pictures.size, pictures.channels, pictures.columns) == ((8, 6), 1, "a=real")
    assert (pictures.bad, pictures.labels, pictures.fit) == ("skip", "none", True)
    assert (recipe.model.width, recipe.optim.batch) == (24, 7)
    assert typed == ["kakusan", "train", *words]


@catches("""cli/train.py: the data of a student are not used
- device, command.teacher, command.data)
+ device, command.teacher)""")
@catches("""cli/train.py: the teacher of a student is not used
- device, command.teacher, command.data)
+ device, None, command.data)""")
def test_every_option_of_a_student_reaches_the_run(monkeypatch):
    seen = started(monkeypatch)
    words = ["--teacher", "t", "--data", "d", "--steps", "9", "--seed", "5", "--distil.guidance", "3", "--out", "o"]
    assert train.main(["mnist-few", *words, "--optim.batch", "7"]) == 0
    wanted = seen[0][0]
    assert (wanted.teacher, wanted.data, wanted.seed, wanted.out) == (Path("t"), "d", 5, Path("o"))
    assert (wanted.recipe.steps, wanted.recipe.distil.guidance, wanted.recipe.optim.batch) == (9, 3.0, 7)


@catches("""cli/train.py: a run is resumed on its former device, whatever was typed
- command.steps, command.device, command.rollback, command.data)
+ command.steps, None, command.rollback, command.data)""")
@catches("""cli/train.py: a rollback is not made
- command.device, command.rollback, command.data)
+ command.device, False, command.data)""")
def test_every_option_of_a_resumed_run_reaches_it(monkeypatch):
    seen = started(monkeypatch)
    assert train.main(["--resume", "r", "--steps", "9", "--device", "cpu", "--rollback", "--data", "d"]) == 0
    ((wanted,),) = seen
    assert vars(wanted) == {
        "run": Path("r"), "minutes": None, "steps": 9, "device": "cpu", "rollback": True, "data": "d",
    }  # fmt: skip
    assert train.main(["--resume", "r", "--minutes", "2"]) == 0
    assert (seen[1][0].minutes, seen[1][0].rollback, seen[1][0].device) == (2.0, False, None)


@catches("""cli/train.py: each process of a job has a run of its own
- return _launch([*words, "--out", str(out)], command)
+ return _launch(words, command)""")
def test_processes_of_a_job_get_all_words_but_those_of_the_launcher(monkeypatch):
    seen = []
    monkeypatch.setattr("kakusan.run.launch.launch", lambda *given: seen.append(given) or 5)
    words = ["mnist-vae", "--devices", "3", "--steps", "7", "--restarts=2", "--out", "o"]
    assert train.main(words) == 5
    assert train.main(["--resume", "r", "--devices=2"]) == 5
    assert seen == [
        (["train", "mnist-vae", "--steps", "7", "--out", "o", "--out", "o"], 3, 2),
        (["train", "--resume", "r"], 2, 0),
    ]


@catches("""run/launch.py: every process of a job takes all cores
- (os.cpu_count() or 1) // processes)
+ (os.cpu_count() or 1))""")
def test_the_launcher_starts_the_processes_with_a_share_of_the_cores(monkeypatch):
    from kakusan.run import launch  # here, because it takes a second

    seen = []
    monkeypatch.setattr(
        launch, "elastic_launch", lambda config, entry: lambda *words: seen.append((config, entry, words))
    )
    monkeypatch.setattr("os.environ", {})
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    try:
        assert launch.launch(["train", "x"], 3, 1) == 0
    finally:
        logging.disable(logging.NOTSET)
    ((config, entry, words),) = seen
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node, config.max_restarts) == (1, 1, 3, 1)
    assert (entry, words) == (sys.executable, ("-m", "kakusan", "train", "x"))
    assert launch.os.environ["OMP_NUM_THREADS"] == "2"


@catches("""cli/commands.py: the demo resumes any run
- if name != DEMO:
+ if False:""")
def test_the_demo_resumes_its_own_run_and_shows_a_finished_one(monkeypatch, tmp_path, capsys):
    seen, name, finished = started(monkeypatch), ["mnist-ddpm"], [False]
    (tmp_path / "run.json").touch()
    records = {"run.json": lambda: {"recipe": {"name": name[0]}}, "summary.json": lambda: {"lines": ["bound"], "weights_sha256": "w"}}  # fmt: skip
    monkeypatch.setattr(
        "kakusan.run.directory.RunDirectory.open",
        lambda path: SimpleNamespace(
            path=path, report=path / "report.html", finished=finished[0], read=lambda name: records[name]()
        ),
    )
    command = arguments.Demo(out=tmp_path)
    assert commands.demo(command) == 0
    assert [(wanted[0].run, wanted[0].steps, wanted[0].minutes) for wanted in seen] == [(tmp_path, None, None)]
    finished[0] = True
    assert commands.demo(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path} is finished; delete it to train again"
    assert (lines[1], lines[-1]) == ("bound", "weights w")
    name[0] = "mnist-vae"
    with pytest.raises(InputError, match="holds a run of mnist-vae, not the demo's mnist-ddpm"):
        commands.demo(command)


@catches("""cli/commands.py: the number of images that a figure shows is not told
- if command.n > MOST_SHOWN and len(drawn.files) > 1:
+ if command.n > MOST_SHOWN and len(drawn.files) > 3:""")
def test_what_sampling_cost_and_what_its_figure_shows_is_told(monkeypatch, capsys):
    drawn = SimpleNamespace(files=[Path("samples.png"), Path("samples.npy")], network_evaluations=1.0)
    monkeypatch.setattr("kakusan.run.sample.sample", lambda run, n, **choices: drawn)
    assert commands.sample(arguments.Sample(Path("r"), 401)) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["samples.png", "samples.npy"]
    assert err.splitlines() == [
        "1 network evaluation per sample",
        "samples.png shows the first 400; samples.npy holds all 401 samples",
    ]
    drawn.network_evaluations = 0.0
    assert commands.sample(arguments.Sample(Path("r"), 400)) == 0
    assert capsys.readouterr().err == ""


@catches("""cli/commands.py: the demo has one seed
- start(Start(recipe, path, command.seed, command.device), words)
+ start(Start(recipe, path, 0, command.device), words)""")
@catches("""cli/commands.py: the demo has its own budget, whatever was typed
- recipe = dataclasses.replace(recipe, minutes=command.minutes, steps=command.steps)
+ recipe = dataclasses.replace(recipe)""")
def test_every_option_of_the_demo_reaches_the_run_and_its_record(monkeypatch, tmp_path):
    seen = started(monkeypatch)
    assert commands.demo(arguments.Demo(out=tmp_path / "d", minutes=2.5, seed=4, device="cpu")) == 0
    ((wanted, words),) = seen
    assert (wanted.out, wanted.seed, wanted.device) == (tmp_path / "d", 4, "cpu")
    assert (wanted.recipe.name, wanted.recipe.minutes, wanted.recipe.steps) == ("mnist-ddpm", 2.5, None)
    assert words == ["kakusan", "demo", "--out", str(tmp_path / "d"), "--seed", "4", "--minutes", "2.5"]


@catches("""cli/commands.py: a damaged run has the exit status of an intact one
- (DAMAGED if findings.damaged else 0)
+ 0""")
@catches("""cli/commands.py: libraries that differ have the exit status of those that agree
- (0 if found.agrees else DIFFERENT)
+ 0""")
@pytest.mark.parametrize("bad", [False, True])
def test_damage_and_differences_have_an_exit_status(bad, monkeypatch, capsys):
    findings = Findings("run", True, None, {"run.json": "damaged"} if bad else {})
    monkeypatch.setattr("kakusan.run.doctor.examine", lambda run: findings)
    answer = SimpleNamespace(agrees=not bad, lines=list)
    monkeypatch.setattr("kakusan.exchange.check_against.check_against", lambda *given: answer)
    assert commands.doctor(arguments.Doctor(Path("run"))) == int(bad)
    assert commands.check_against(arguments.CheckAgainst("diffusers")) == int(bad)


@catches("""cli/commands.py: the command that trains on data lacks their labels
- ("size", "channels", "columns", "labels")
+ ("size", "channels", "columns")""")
@catches("""cli/commands.py: the command that trains on data lacks the types of columns
- ("size", "channels", "columns", "labels")
+ ("size", "channels", "labels")""")
def test_the_command_that_trains_on_data_has_the_options_that_described_them(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("a,b,c\n" + "".join(f"{k}.5,{k % 3},{'xy'[k % 2]}\n" for k in range(9)))
    command = arguments.Data(str(tmp_path / "x.csv"), columns="b=categorical", labels="c")
    assert commands.data(command) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"train tables --data {tmp_path / 'x.csv'} --columns b=categorical --labels c")


# Defaults


def defaults():
    """Default of every option of every command by its flag, and the record of every recipe."""
    options = {
        verb: {
            field.name: str(field.default)
            for field in dataclasses.fields(kind)
            if field.default is not dataclasses.MISSING
        }
        for verb, kind in {**arguments.COMMANDS, "train": arguments.Train, "resume": arguments.Resume}.items()
    }
    return {"options": options, "recipes": {name: recipe.record() for name, recipe in RECIPES.items()}}


@catches("""cli/arguments.py: an evaluation classifies 20 examples
- classified: Annotated[int, Between(0)] = 200
+ classified: Annotated[int, Between(0)] = 20""")
@catches("""recipes/binary_best.py: the learning rate is ten times smaller
- lr=4e-3
+ lr=4e-4""")
@catches("""recipes/tables.py: tables are trained without weight decay
- weight_decay=0.1, batch
+ batch""")
@catches("""run/families/diffusion.py: images are trained around another noise level
- = (-0.8, 1.0)
+ = (0.8, 1.0)""")
def test_defaults_are_those_that_the_documents_and_the_measurements_were_made_with():
    """To change a default on purpose, measure again and write tests/golden/defaults.json anew."""
    known = json.loads((Path(__file__).parent / "golden" / "defaults.json").read_text())
    assert json.loads(json.dumps(defaults())) == known


# Words


@catches("""console.py: durations are rounded down
- round(max(seconds, 0.0))
+ int(max(seconds, 0.0))""")
def test_durations_are_rounded_to_the_nearest_second():
    assert [minutes(value) for value in (59.4, 59.6, 125.0, -3.0)] == ["0:59", "1:00", "2:05", "0:00"]
    assert [counted(number, "step") for number in (0, 1, 2000)] == ["0 steps", "1 step", "2,000 steps"]
