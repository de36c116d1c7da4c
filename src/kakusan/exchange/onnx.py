"""Export as one ONNX file: the denoiser, and metadata for sampling, checked with onnxruntime.

Inputs are z_t (batch, C, H, W) float32, t (batch,) int64 and, for a conditional model, cond (batch,) int64. The outputs are
`prediction` and, with autoguidance, `early_prediction` of the weaker network from the same inputs. Guided
sampling uses early_prediction + guidance (prediction - early_prediction) at the steps that the metadata lists.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.exchange.base import Exported, ExportFormat
from kakusan.exchange.card import card_of
from kakusan.exchange.parts import Parts, parts_of, shared_model
from kakusan.noise import randn, stream
from kakusan.progress import stages
from kakusan.run.source import ModelSource
from kakusan.run.trained_model import TrainedModel

TOLERANCE = 1e-4  # largest difference of outputs, relative to the largest output if that exceeds 1
NUM = 3  # number of examples in the check; differs from the number at tracing
NEEDED = ("onnx", "onnxscript", "onnxruntime")


class ONNXFile(ExportFormat):
    """One .onnx file. Export needs the extra onnx; using the file needs only onnxruntime."""

    suffix = ".onnx"

    def make(self, source: ModelSource) -> Exported:
        """Return the file, after a comparison of its outputs with torch's.

        Raises:
            InputError: If the extra is missing, the model is not a diffusion model, or the outputs differ.
        """
        with stages("exporting", 4) as done:
            onnx = _libraries()["onnx"]
            model = shared_model(source)
            parts = parts_of(model, source.path)
            network = _Outputs(parts).eval()
            done()
            graph = _exported(network, model, parts)
            done()
            for name, value in metadata(model, parts, source).items():
                entry = graph.metadata_props.add()
                entry.key, entry.value = name, value if isinstance(value, str) else json.dumps(value)
            onnx.checker.check_model(graph)
            content = graph.SerializeToString()
            done()
            return Exported(content, [_check(content, network, model, parts)])

    def use(self, out: Any) -> str:
        """Return the Python code that loads the file."""
        return f"load it with: onnxruntime.InferenceSession({str(out)!r})"


class _Outputs(nn.Module):
    """Module that evaluates both networks on the same inputs and drops the learned variance."""

    def __init__(self, parts: Parts):
        super().__init__()
        self.networks = nn.ModuleList(parts.networks)

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the prediction, and that of the early weights if they are used."""
        inputs = (z_t, t) if cond is None else (z_t, t, cond)
        outputs = [network(*inputs) for network in self.networks]
        return tuple(one[0] if isinstance(one, tuple) else one for one in outputs)


def metadata(model: TrainedModel, parts: Parts, source: ModelSource) -> dict[str, Any]:
    """Return what sampling needs besides the network: texts, and other values to be written as JSON."""
    facts, chain = source.facts, parts.chain
    return {
        "kakusan_format": "1",
        "prediction": chain.prediction,
        "event_shape": list(model.event_shape),
        "alpha_bar": chain.schedule.alpha_bar.tolist(),
        "pixel_range": [model.scale.low, model.scale.high],
        "clip": None if chain.clip is None else list(chain.clip),
        "solver": model.sampling.solver,
        "times": model.sampling.times(),
        "guidance": parts.weight,
        "guided_times": [t for t, guided in enumerate(parts.guided) if guided],
        "class_probs": None if parts.classes is None else parts.classes.share.tolist(),
        "data": {"name": facts.data.name, "kind": facts.data.kind, "sha256": facts.data.digest},
        "versions": dict(facts.versions),
        "card": card_of(source),
    }


def _libraries() -> dict[str, Any]:
    found = {}
    for name in NEEDED:
        try:
            found[name] = importlib.import_module(name)
        except ImportError as error:
            raise InputError(f"ONNX needs {name}, which is not installed; type: pip install 'kakusan[onnx]'") from error
    return found


def _inputs(model: TrainedModel, parts: Parts, num: int) -> tuple[Tensor, ...]:
    randomness = stream("onnx", num)
    z = randn((num, *model.event_shape), randomness, torch.float32, "cpu")
    t = torch.randint(1, parts.chain.depth + 1, (num,), generator=randomness)
    return (z, t) if parts.classes is None else (z, t, parts.classes.draw(num, randomness))


def _exported(network: nn.Module, model: TrainedModel, parts: Parts) -> Any:
    """Return the graph of both networks for any number of examples."""
    names = ["z_t", "t", "cond"][: 2 if parts.classes is None else 3]
    batch = torch.export.Dim("batch")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # warnings of torch about its own modules
            program = torch.onnx.export(
                network,
                _inputs(model, parts, 2),
                input_names=names,
                output_names=["prediction", "early_prediction"][: len(parts.networks)],
                dynamic_shapes=tuple({0: batch} for _ in names),
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None, "with dynamo"
    return program.model_proto


@torch.no_grad()
def _check(content: bytes, network: nn.Module, model: TrainedModel, parts: Parts) -> str:
    """Return a line about the largest difference between onnxruntime and torch; InputError if it is too large."""
    runtime = _libraries()["onnxruntime"]
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = _inputs(model, parts, NUM)
    found = session.run(None, {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs)})
    wanted = network(*inputs)
    difference = max(
        (torch.from_numpy(mine) - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())
        for mine, theirs in zip(found, wanted)
    )
    if not difference <= TOLERANCE:
        raise InputError(
            f"onnxruntime's outputs differ from torch's by {difference:.1e}, at most {TOLERANCE:.0e}; nothing was written"
        )
    return f"outputs in onnxruntime {runtime.__version__} differ by at most {difference:.1e} of torch's (tolerance {TOLERANCE:.0e})"
