"""kakusan sample: new examples as a picture and an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kakusan.cli import Sample
from kakusan.commands.say import tell
from kakusan.errors import InputError
from kakusan.images import Images
from kakusan.model import load
from kakusan.rundir import refuse_inside_a_run

LARGEST_SHEET = 400


def main(command: Sample) -> int:
    """Draw and write; prints where."""
    if command.n < 1:
        raise InputError(f"-n must be at least 1, got {command.n}")
    model = load(command.run, command.device)
    out = command.out or Path("samples") / _name(command)
    refuse_inside_a_run(out)
    samples = model.sample(command.n, command.seed, command.steps, command.sampler, guidance=command.guidance)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out} ({error.strerror}); choose another --out") from error
    np.save(out / "samples.npy", np.asarray(samples))
    written = [out / "samples.npy"]
    if isinstance(samples, Images):
        facts = {
            "run": command.run,
            "n": command.n,
            "seed": command.seed,
            "steps": command.steps,
            "sampler": command.sampler,
            "guidance": command.guidance,
        }
        Images(samples[:LARGEST_SHEET]).save(out / "samples.png", {k: v for k, v in facts.items() if v is not None})
        written.insert(0, out / "samples.png")
        if len(samples) > LARGEST_SHEET:
            tell(f"the picture shows the first {LARGEST_SHEET}; the array holds all {len(samples):,}")
    for path in written:
        print(path)
    return 0


def _name(command: Sample) -> str:
    """A folder for each different request."""
    sampler = f"-{command.sampler}" if command.sampler else ""
    steps = f"-steps{command.steps}" if command.steps is not None else ""
    guidance = f"-guidance{command.guidance:g}" if command.guidance is not None else ""
    return f"{command.run.resolve().name}{sampler}{steps}{guidance}-seed{command.seed}-n{command.n}"
