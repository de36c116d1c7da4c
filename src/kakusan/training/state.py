"""State of a run: everything that resuming needs in addition to the tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from kakusan.errors import InputError
from kakusan.training.clock import Reading

IN_A_ROW = 10  # consecutive skipped steps after which a run stops
LOSS_MEMORY = 0.02  # weight of the newest step in the running mean of the loss
WINDOW, SHARE = 1000, 0.05  # a run also stops if this share of the last steps was skipped


@dataclass
class State:
    """State of a run as plain values, as in state.json."""

    step: int = 0  # number of steps done
    seconds: float = 0.0
    marks: int = 0  # number of marks already measured
    skipped: list[int] = field(default_factory=list)  # skipped steps among the last 1,000
    num_skipped: int = 0  # number of skipped steps in the whole run
    loss: float | None = None  # running mean of the loss
    made_by: dict[str, str] = field(default_factory=dict)  # fingerprint of the run
    readings: list[Reading] = field(default_factory=lambda: [Reading(0, 0.0, 0.0)])  # readings of the clock

    def __post_init__(self):
        self.readings = [Reading(*reading) for reading in self.readings]

    def images(self, batch: int) -> int:
        """Return the number of examples seen so far."""
        return self.step * batch

    def note(self, step: int, bad: bool, loss: float) -> None:
        """Record a step: a skip if it was bad, otherwise its loss."""
        if bad:
            self.skip(step)
        else:
            self.loss = loss if self.loss is None else self.loss + LOSS_MEMORY * (loss - self.loss)

    def skip(self, step: int) -> None:
        """Record a skipped step; NonFiniteLossError if too many were skipped."""
        self.skipped = [one for one in self.skipped if one > step - WINDOW] + [step]
        self.num_skipped += 1
        row = 0
        while step - row in self.skipped:
            row += 1
        if row >= IN_A_ROW or len(self.skipped) >= SHARE * WINDOW:
            raise NonFiniteLossError(step, row, len(self.skipped))


class NonFiniteLossError(InputError):
    """Error: loss or gradient was not finite in too many steps. Those steps did not change the weights."""

    def __init__(self, step: int, row: int, recent: int):
        often = f"{row} steps in a row" if row >= IN_A_ROW else f"{recent} of the last {WINDOW:,} steps"
        super().__init__(
            f"the loss or its gradient was not finite at {often}, the last of them step {step + 1}; the weights are "
            "intact: resume from the last checkpoint with other noise (--resume RUN --rollback), or start again with "
            "smaller learning rates (--optim.lr, --optim.matrix-lr)"
        )
