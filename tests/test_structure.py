"""The house keeps its order: imports run one way, the command line starts without torch, dependencies are few."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from kakusan.cli import USAGE
from kakusan.cli.arguments import VERBS

PACKAGE = Path(__file__).parent.parent / "src" / "kakusan"
# Each module may import from its own row and from rows above it.
ROWS = [
    {
        "errors",
        "registry",
        "signals",
        "sharing",
        "allocator",
        "checks",
        "limits",
        "storage",
        "noise",
        "units",
        "images",
    },
    {"distributions", "schedule"},
    {"steps", "clusters"},
    {"chain"},
    {"bound", "observation"},
    {"conjugate", "vae", "hierarchy", "diffusion"},
    {"samplers", "guidance", "likelihood"},
    {"distil"},
    {"train", "rundir", "report", "data", "nets", "measure", "oracles"},
    {"recipes"},
    {"artefact"},
    {"model"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
SIDE = {"train", "report", "data", "nets", "measure", "oracles"}  # rooms that know nothing of each other


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Rooms of this package that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("kakusan.")}
    return found


def test_imports_run_one_way():
    level = {name: row for row, names in enumerate(ROWS) for name in names}
    for path in PACKAGE.rglob("*.py"):
        own = room(path)
        if own == "__init__":
            continue
        for other in imports(path) - {own}:
            assert level[other] <= level[own], f"{path} imports kakusan.{other}, which stands above it"


def test_side_rooms_know_nothing_of_models_or_of_each_other():
    models = {
        "chain",
        "bound",
        "conjugate",
        "vae",
        "hierarchy",
        "diffusion",
        "samplers",
        "guidance",
        "likelihood",
        "model",
        "recipes",
    }
    allowed = {("measure", "data")}  # the classifier's own training reads the digits
    for path in PACKAGE.rglob("*.py"):
        own = room(path)
        if own in SIDE:
            for other in imports(path) & (models | SIDE) - {own}:
                assert (own, other) in allowed, f"{path} imports kakusan.{other}"


def test_using_a_model_does_not_load_what_only_several_processes_need():
    slow = "torch.distributed.tensor"  # a second
    code = f"import sys, kakusan.run.trained_model, kakusan.cli.commands.sample; assert {slow!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_and_listings_load_no_torch():
    for command in ("--help", "recipes", "train mnist-vae --help"):
        code = (
            "import sys\nfrom kakusan.cli import main\n"
            f"try:\n    main({command.split()!r})\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
            "assert 'torch' not in sys.modules, 'torch was imported'"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_each_line_of_help_is_about_a_command_and_none_is_forgotten():
    named = {line.split()[1] for line in USAGE.splitlines() if line.startswith("  kakusan ")}
    assert named == {"train", *VERBS}


def test_the_dependencies_are_these_and_no_more():
    names = {line.split(">")[0].split(";")[0].strip() for line in metadata.requires("kakusan") or []}
    assert names == {"torch", "numpy", "pillow", "safetensors", "filelock", "tyro", "rich", "jinja2", "matplotlib"}


def test_no_file_is_ever_unpickled():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for word in ("import pickle", "torch.load", "torch.save", "yaml.load", "allow_pickle=True"):
            assert word not in text, f"{path} has {word}"
