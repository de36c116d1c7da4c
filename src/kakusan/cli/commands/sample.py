"""kakusan sample: new examples as a figure and an array."""

from __future__ import annotations

from kakusan.cli.arguments import Sample
from kakusan.console import counted, say, tell
from kakusan.run.sample import MOST_SHOWN, sample

CHOICES = ("steps", "guidance", "spacing", "end_log_snr")


def main(command: Sample) -> int:
    """Draw and write samples; print the files."""
    choices = {name: getattr(command, name) for name in CHOICES}
    drawn = sample(
        command.run,
        command.n,
        out=command.out,
        seed=command.seed,
        device=command.device,
        sampler=command.sampler,
        **choices,
        **command.options,
    )
    if drawn.network_evaluations:
        number = drawn.network_evaluations
        tell(f"{number:g} network evaluation{'' if number == 1 else 's'} per sample")
    if command.n > MOST_SHOWN and len(drawn.files) > 1:
        tell(f"samples.png shows the first {MOST_SHOWN}; samples.npy holds all {counted(command.n, 'sample')}")
    for path in drawn.files:
        say(str(path))
    return 0
