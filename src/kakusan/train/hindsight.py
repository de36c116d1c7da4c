"""Steps that are looked at together, after they were done, and done again one by one if one of them was bad.

Whether a gradient holds a number that is not finite takes a pass over all of it: some hundredths of a step, where a step
takes milliseconds. But such a number never leaves the optimiser's mean gradient, where one look finds it for many
steps. So a copy is kept of all that a step moves; when a look finds something, everything is put back, and the same
steps, which are functions of their number, are done again with a look at each. What a run comes to is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kakusan.train.engine import any_not_finite
from kakusan.train.state import State

STEPS = 64  # between two looks
# Of weights, a copy of which is kept with their averages and moments. Steps of larger networks take so long that a
# look at each costs nothing to speak of, and their copy would cost memory.
LARGEST = 2**20


class Hindsight:
    """The last moment of a run at which all was good, to which it can go back.

    Args:
        moving: All tensors that a step changes, on the CPU.
        means: Those of them that are running means of the gradients.
        state: The plain values that a step changes.
    """

    def __init__(self, moving: Sequence[Tensor], means: Sequence[Tensor], state: State):
        self._moving, self._means = list(moving), list(means)
        self._kept = [tensor.clone() for tensor in self._moving]
        self._one = torch.ones(())
        self.keep(state)

    @property
    def step(self) -> int:
        """Up to which all steps are known to be good."""
        return self._values["step"]

    def keep(self, state: State) -> None:
        """All is good now."""
        torch._foreach_copy_(self._kept, self._moving)
        # lists of a state are replaced and never added to, but for the readings; a mark that was told is told
        self._values = {name: value for name, value in vars(state).items() if name not in ("marks", "readings")}
        self._num_readings = len(state.readings)

    def is_good(self) -> bool:
        """Whether no gradient since then held a number that is not finite."""
        return not any_not_finite(self._means, self._one)

    def go_back(self, state: State) -> int:
        """Put everything back, the clock's readings left alone; how many of those there were."""
        torch._foreach_copy_(self._moving, self._kept)
        vars(state).update(self._values)
        return self._num_readings
