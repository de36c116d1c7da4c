"""Export as one HTML file that draws samples offline in any browser. A double click opens it."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kakusan.errors import InputError
from kakusan.exchange.base import Exported, ExportFormat
from kakusan.exchange.card import card_of, plain_facts
from kakusan.exchange.html.lower import lower
from kakusan.exchange.html.pack import num_weights, packed, table
from kakusan.exchange.html.plan import steps_of
from kakusan.exchange.parts import Parts, parts_of, shared_model
from kakusan.models.clusters import Classes
from kakusan.models.mixture import split
from kakusan.progress import progress, stages
from kakusan.run.source import ModelSource
from kakusan.run.trained_model import TrainedModel
from kakusan.solvers import solver_named

COUNTS = (5, 10, 20, 50, 100)  # numbers of steps to choose from, besides the default
FEW_COUNTS = (1, 2, 4)  # numbers of steps for a student
LARGEST = 12_000_000  # largest size in bytes of a page for a built-in recipe
CHANNELS = (1, 3, 4)


class HTMLPage(ExportFormat):
    """Page with the weights and the code that runs them. It makes no network requests."""

    suffix = ".html"

    def make(self, source: ModelSource) -> Exported:
        """Return the page.

        Raises:
            InputError: If the model is not a diffusion model of images, or the page lacks an operation of its network.
        """
        model = shared_model(source)
        parts = parts_of(model, source.path)
        if len(model.event_shape) != 3 or model.event_shape[0] not in CHANNELS:
            raise InputError(
                f"a page draws images, and {source.path} has examples of shape {model.event_shape}; choose another --format"
            )
        with stages("exporting", 2) as done:
            settings, weights = contents(model, parts)
            done()
            page = _page(model, source, settings, weights).encode()
        lines = [f"{len(settings['program']['ops'])} operations, {len(weights):,} characters of weights"]
        if len(page) > LARGEST:
            lines.append(f"caution: the page has {len(page) / 1e6:.0f} MB and opens slowly; use a smaller network")
        return Exported(page, lines)

    def use(self, out: Any) -> str:
        """Return a line of text that tells how to open the page."""
        return f"open it with a double click, or type: python -m webbrowser {out.resolve().as_uri()}"


def contents(model: TrainedModel, parts: Parts) -> tuple[dict[str, Any], str]:
    """Return the input of the page's engine: settings as plain JSON values, and the weights as text."""
    policy, chain, classes = model.sampling, parts.chain, parts.classes
    example = [torch.zeros(1, *model.event_shape), torch.ones(1, dtype=torch.int64)]
    if classes is not None:
        example.append(torch.zeros(1, dtype=torch.int64))
    programs = [lower(one, tuple(example)) for one in progress(parts.networks, "exporting")]
    solver = solver_named(policy.solver)
    offered = {policy.default_steps, *(FEW_COUNTS if policy.default_steps == 1 else COUNTS)}
    settings = {
        "shape": list(model.event_shape),
        "range": [model.scale.low, model.scale.high],
        "clip": None if chain.clip is None else list(chain.clip),
        "guidance": parts.weight,
        "program": table(programs[0]),
        "num_weights": num_weights(programs[0]),
        "class_ends": None if classes is None else classes.share.double().cumsum(0).tolist(),
        "class_word": _word(classes),
        "class_names": list(model.classes),
        "default_steps": min(policy.default_steps, chain.depth),
        "plans": {
            str(count): steps_of(chain, solver, policy.times(count), parts.guided)
            for count in sorted({min(count, chain.depth) for count in offered})
        },
    }
    return settings, packed(*programs)


def _word(classes: Classes | None) -> str:
    return "class" if classes is None or not len(classes.images()) else "cluster"


def _page(model: TrainedModel, source: ModelSource, settings: dict[str, Any], weights: str) -> str:
    environment = Environment(
        loader=PackageLoader("kakusan.exchange", "html"), autoescape=True, undefined=StrictUndefined
    )
    classes = split(model.chain)[1]
    offered = []
    if classes is not None:
        order = classes.share.argsort(descending=True, stable=True).tolist()
        words = model.classes or tuple(map(str, range(classes.num)))
        offered = [(k, f"{words[k]} ({classes.share[k]:.1%} of the data)") for k in order if classes.share[k] > 0]
    text = json.dumps(settings, separators=(",", ":")).replace("<", "\\u003c")
    scripts = {
        f"{name}_js": Markup(
            resources.files("kakusan.exchange.html").joinpath(f"{name}.js").read_text(encoding="utf-8")
        )
        for name in ("noise", "engine", "page")
    }
    return environment.get_template("page.html").render(
        name=source.name,
        summary=model.recipe.summary.rstrip("."),
        word=settings["class_word"].capitalize(),
        classes=offered,
        counts=[int(count) for count in settings["plans"]],
        default=settings["default_steps"],
        facts=plain_facts(source),
        card=card_of(source),
        model=Markup(text),
        weights=Markup(weights),
        **scripts,
    )
