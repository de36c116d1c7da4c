"""Time of one denoiser evaluation in torch and in onnxruntime, in pairs on one thread.

    python benchmarks/onnx_speed.py --run runs/demo --batches 16 64 --rounds 7

The run is exported as ONNX, with the early weights where they guide it, and both evaluate all of its networks on the
same inputs. Blocks of both alternate, and processor time is counted. The ratio is torch's time to onnxruntime's in each
round: sampling with onnxruntime would be offered if it were 1.3 or more.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from results import Result, Spread, interleaved, processor_seconds
from torch import Tensor

import kakusan as kk
from kakusan.exchange.parts import parts_of, shared_model
from kakusan.run.source import open_source

SECONDS = 1.0  # of one block, about


def pair(run: Path, batches: list[int]) -> dict[tuple[str, int], Callable[[], object]]:
    """One evaluation by each program and batch size."""
    import onnxruntime

    model = shared_model(open_source(run))
    parts = parts_of(model, run)
    networks = [one.eval() for one in parts.networks]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        file = kk.export(run, Path(folder) / "model.onnx", "onnx").path
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found: dict[tuple[str, int], Callable[[], object]] = {}
    for batch in batches:
        inputs: list[Tensor] = [torch.randn(batch, *model.event_shape), torch.full((batch,), parts.chain.depth // 2)]
        if parts.classes is not None:
            inputs.append(parts.classes.draw(batch, torch.Generator().manual_seed(0)))
        arrays = {name: value.numpy() for name, value in zip(names, inputs)}
        found["torch", batch] = lambda inputs=inputs: [one(*inputs) for one in networks]
        found["onnxruntime", batch] = lambda arrays=arrays: session.run(None, arrays)
    return found


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--run", type=Path, required=True, help="a finished run of mnist-ddpm")
    words.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    words.add_argument("--rounds", type=int, default=7)
    return words


@torch.no_grad()
def main() -> None:
    given = parser().parse_args()
    torch.set_num_threads(1)
    single = pair(given.run, given.batches)
    for run in single.values():
        run()
    counts = {key: max(1, round(SECONDS / processor_seconds(run))) for key, run in single.items()}
    blocks = {key: lambda key=key: [single[key]() for _ in range(counts[key])] for key in single}
    took = interleaved(blocks, given.rounds, processor_seconds)
    rows = []
    for batch in given.batches:
        each = {who: [one / counts[who, batch] for one in took[who, batch]] for who in ("torch", "onnxruntime")}
        ratio = Spread.of([one / other for one, other in zip(each["torch"], each["onnxruntime"])])
        row = {"batch": batch} | {f"{who}, ms": round(1000 * Spread.of(one).median, 2) for who, one in each.items()}
        row |= {"torch / onnxruntime": round(ratio.median, 2), "quartiles": f"{ratio.low:.2f} to {ratio.high:.2f}"}
        rows.append(row)
        print(row, flush=True)
    Result(
        "onnx_speed",
        "Is onnxruntime faster than torch on a CPU?",
        rows,
        [f"One evaluation of all networks of a run of mnist-ddpm, one thread, {given.rounds} rounds, processor time."],
    ).write()


if __name__ == "__main__":
    main()
