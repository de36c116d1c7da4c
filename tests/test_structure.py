"""The house keeps its order: imports run one way, the command line starts without torch, dependencies are few."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kakusan.data.forms import FORMS
from kakusan.run.families import FAMILIES

PACKAGE = Path(__file__).parent.parent / "src" / "kakusan"
# A module may import from its own row and from the rows above it.
ROWS = [
    {
        "columns",
        "devices",
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
# Branches on the class of a model, its family or its form of data, outside of recipes, run/families and run/build
KINDS_OF_MODEL = {"family", "kind", "diffusion", "form"}  # attributes, compared with anything
MODELS = {"chain", "model", "module", "recipe", "config", "family"}  # first arguments of hasattr and getattr
NO_MODELS = {"Classes", "Function"}  # an interface, and a wrapper of functions
# A setting that is given or not, such as `recipe.distil is None`, is no branch on a family.
KIND_NAMES = {*FAMILIES, *FORMS} - {"diffusers"}  # which is also the name of a library
KNOWN_BRANCHES = [
    # two layouts of weights of one network
    "exchange/diffusers_export.py: isinstance(config, DiffusersConfig)",
    "exchange/diffusers_export.py: isinstance(config, DiffusersConfig)",
    # stratified timesteps need the cost of a step, which other chains do not have
    "likelihood/scores.py: isinstance(chain, Diffusion)",
    # the internals of torch's modules
    "models/mixture.py: getattr(self.chain, '_non_persistent_buffers_set', set())",
    "models/mixture.py: getattr(self.chain, held, {})",
    # the one place that tells a mixture from other chains
    "models/mixture.py: isinstance(model, Mixture)",
    # a file whose two entries must agree
    "run/model_file.py: source.kind != family_of(recipe.model).kind",
    # public: None for other models
    "run/trained_model.py: isinstance(chain, Diffusion)",
    # a solver needs the noise levels of a diffusion chain
    "solvers/loop.py: isinstance(chain, Diffusion)",
    # learning rates of parameters, which any module may have
    "training/optimizers.py: getattr(module, 'rate_factors', {})",
]


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
    assert long == set()


def model_classes() -> set[str]:
    """Names of the concrete classes of models, of their settings, and of the families and forms of data."""
    paths = [*(PACKAGE / "models").glob("*.py"), *(PACKAGE / "run" / "families").glob("*.py")]
    paths += [*(PACKAGE / "data" / "forms").glob("*.py"), PACKAGE / "images.py"]
    paths += [
        PACKAGE / "objectives" / "distillation.py",
        PACKAGE / "run" / "sampling.py",
        PACKAGE / "data" / "scale.py",
    ]
    trees = [ast.parse(path.read_text()) for path in paths]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)} - NO_MODELS


def is_branch(node: ast.AST, classes: set[str]) -> bool:
    """True for a check of the class, the family or the form of a model or its data."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    attributes = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    attributes -= {"kind"} if "dtype" in attributes else set()  # numpy's name for a class of types
    texts = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in ("isinstance", "issubclass"):
            return bool(names & classes)
        if node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3):
            return bool(names & MODELS)
    if isinstance(node, ast.Compare):
        return bool(attributes & KINDS_OF_MODEL or KIND_NAMES & texts or (names & classes and "type" in names))
    if isinstance(node, ast.match_case):
        return bool(names & classes or KIND_NAMES & texts)
    return False


def branches() -> list[str]:
    """Each branch as file and text."""
    classes, found = model_classes(), []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(("recipes/", "run/families/", "run/build.py", "data/forms/")):
            tree = ast.parse(path.read_text())
            found += [f"{name}: {ast.unparse(node)}" for node in ast.walk(tree) if is_branch(node, classes)]
    return found


def test_at_most_ten_branches_depend_on_the_family_of_a_model_or_the_form_of_its_data():
    assert sorted(branches()) == sorted(KNOWN_BRANCHES), "call a method of the Family, the Form or the chain instead"
    assert len(KNOWN_BRANCHES) <= 10


@pytest.mark.parametrize(
    "text",
    [
        "isinstance(chain, Diffusion)",
        "isinstance(x, (VAE, str))",
        "issubclass(kind, models.Mixture)",
        "dataset.kind == 'images'",
        "name in ('diffusion', 'vae')",
        "getattr(model.recipe, 'objective', None)",
        "hasattr(chain, 'denoiser')",
        "model.diffusion is None",
        "type(chain) is Diffusion",
    ],
)
def test_a_branch_on_the_family_is_counted(text):
    assert any(is_branch(node, model_classes()) for node in ast.walk(ast.parse(text)))


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
