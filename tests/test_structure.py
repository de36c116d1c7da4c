"""The house keeps its order: imports run one way, the command line starts without torch, dependencies are few."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "kakusan"
# A module may import from its own row and from the rows above it.
ROWS = [
    {
        "columns",
        "errors",
        "units",
        "noise",
        "registry",
        "checks",
        "settings",
        "console",
        "signals",
        "distributed",
        "parallel",
        "progress",
    },
    {"distributions"},
    {"nets", "data", "storage", "images", "oracles", "measure", "schedule", "likelihoods"},
    {"timesteps", "chain"},
    {"bound"},
    {"models"},
    {"solvers", "guidance"},
    {"objectives"},
    {"likelihood", "training"},
    {"run"},
    {"recipes"},
    {"exchange"},
    {"cli"},
    {"__main__"},
]
# Rooms that import nothing above `distributions`, with what each may use besides
SIDE = {
    "nets": set(),
    "data": {"storage", "images"},
    "measure": {"data", "storage"},
    "storage": set(),
    "oracles": set(),
}
KNOWN_IMPORTS = {("training", "run")}  # to be removed; add none
FILE_LINES, FUNCTION_LINES = 350, 60
KNOWN_LONG = {  # to be split; add none
    "likelihood/diffusion.py: of_diffusion",
    "run/trained_run.py: train",
    "training/fit.py: fit",
}


def imports() -> set[tuple[str, str]]:
    """Pairs of rooms, the first of which imports the second anywhere."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "kakusan":
                names = [f"kakusan.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
            found |= {(own, name.split(".")[1]) for name in names if name.startswith("kakusan.")}
    return {(own, other) for own, other in found if own not in ("__init__", other)}


def test_every_room_has_its_row():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__", "py"} == set.union(*ROWS)


def test_imports_run_one_way():
    level = {name: row for row, names in enumerate(ROWS) for name in names}
    upward = {(own, other) for own, other in imports() if level[other] > level[own]}
    assert upward - KNOWN_IMPORTS == set(), "the first of each pair stands above the second"


def test_side_rooms_import_nothing_above_distributions():
    basic = ROWS[0] | ROWS[1]
    outward = {(own, other) for own, other in imports() if own in SIDE and other not in basic | SIDE[own]}
    assert outward - KNOWN_IMPORTS == set()


def test_no_file_has_more_than_350_lines_and_no_function_more_than_60():
    long = set()
    for path in PACKAGE.rglob("*.py"):
        name, text = path.relative_to(PACKAGE).as_posix(), path.read_text()
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        long |= {name} if len(text.splitlines()) > FILE_LINES else set()
        long |= {f"{name}: {f.name}" for f in functions if f.end_lineno - f.lineno >= FUNCTION_LINES}
    assert long - KNOWN_LONG == set()


def test_using_a_model_does_not_load_what_only_several_processes_need():
    slow = "torch.distributed.tensor"  # a second
    code = f"import sys, kakusan.run.trained_model, kakusan.run.sample; assert {slow!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_and_listings_load_no_torch():
    for command in ("--help", "recipes", "train mnist-vae --help", "sample --help"):
        code = (
            "import sys\nfrom kakusan.cli import main\n"
            f"try:\n    main({command.split()!r})\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
            "assert 'torch' not in sys.modules, 'torch was imported'"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_dependencies_are_these_and_no_more():
    project = tomllib.loads((PACKAGE.parent.parent / "pyproject.toml").read_text())["project"]
    names = {line.split(">")[0] for line in project["dependencies"]}
    assert names == {"torch", "numpy", "pillow", "safetensors", "filelock", "jinja2", "matplotlib"}


def test_no_file_is_ever_unpickled():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for word in ("import pickle", "torch.load", "torch.save", "yaml.load", "allow_pickle=True"):
            assert word not in text, f"{path} has {word}"
