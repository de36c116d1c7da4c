"""Sampling with onnxruntime: the chain of an ONNX file that kakusan wrote, for kakusan's own solvers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kakusan.console import command
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.schedule import Schedule
from kakusan.storage import files, records

MOST_BYTES = 2**31  # of one protobuf message
MOST_JSON = 2**20
NEEDED = (
    "prediction",
    "event_shape",
    "alpha_bar",
    "clip",
    "solver",
    "times",
    "guidance",
    "guided_times",
    "class_probs",
)


class ONNXDenoiser(nn.Module):
    """Denoiser that onnxruntime evaluates, guided at the steps that its file lists.

    Args:
        session: onnxruntime's session of the file.
        facts: The file's metadata.

    Attributes:
        class_probs: Class probabilities of a conditional model, (K,) in float64, otherwise None.
    """

    def __init__(self, session: Any, facts: dict[str, Any]):
        super().__init__()
        self.session, self.names = session, [one.name for one in session.get_inputs()]
        self.weight, self.guided = facts["guidance"], set(facts["guided_times"])
        shares = facts["class_probs"]
        self.class_probs = None if shares is None else torch.tensor(shares, dtype=torch.float64)

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The prediction, for one t of the whole batch.

        Raises:
            InputError: If cond is missing, or given to an unconditional model.
        """
        values = (z_t, t) if cond is None else (z_t, t, cond)
        if len(values) != len(self.names):
            raise InputError(
                f"the ONNX file takes {', '.join(self.names)}; {'omit' if cond is not None else 'pass'} cond"
            )
        found = self.session.run(None, {name: value.cpu().numpy() for name, value in zip(self.names, values)})
        ours, *early = (torch.from_numpy(one).to(z_t.device) for one in found)
        return early[0] + self.weight * (ours - early[0]) if early and int(t[0]) in self.guided else ours


def open_chain(path: Path | str, num_threads: int = 0) -> tuple[Diffusion, dict[str, Any]]:
    """Open an ONNX file that `kakusan export --format onnx` wrote, for sampling.

    Args:
        path: The file.
        num_threads: Threads of onnxruntime; 0 leaves the choice to it.

    Returns:
        The chain for `kakusan.sample`, and the solver and times of the exported model as its keywords.

    Raises:
        InputError: If onnxruntime is missing, or it is no such file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "sampling needs onnxruntime, which is not installed; type: pip install 'kakusan[onnx]'"
        ) from error
    path = Path(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = num_threads, 4
    try:
        content = files.read_regular(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected an .onnx file") from error
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base
        raise InputError(f"{path} is not an ONNX file that onnxruntime reads ({type(error).__name__})") from error
    facts = _facts(session.get_modelmeta().custom_metadata_map, path)
    alpha_bar = torch.tensor(facts["alpha_bar"], dtype=torch.float64)
    chain = Diffusion(
        ONNXDenoiser(session, facts),
        Schedule.from_betas(1 - alpha_bar[1:] / alpha_bar[:-1]),
        tuple(facts["event_shape"]),
        prediction=facts["prediction"],
        clip=None if facts["clip"] is None else tuple(facts["clip"]),
    )
    return chain, {"solver": facts["solver"], "times": facts["times"]}


def _facts(texts: dict[str, str], path: Path) -> dict[str, Any]:
    missing = [name for name in NEEDED if name not in texts]
    if missing:
        made = command("export", "RUN", "--format", "onnx")
        raise InputError(f"{path} has no {missing[0]} in its metadata; expected a file of {made}")
    plain = {"prediction", "solver"}
    return {
        name: texts[name] if name in plain else records.parse(texts[name], f"{path}: {name}", MOST_JSON)
        for name in NEEDED
    }
