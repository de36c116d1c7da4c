"""kakusan compare: the paired difference of two runs, with its error."""

from __future__ import annotations

import json

from kakusan.cli.arguments import Compare
from kakusan.console import tell, tell_measuring
from kakusan.errors import InputError
from kakusan.likelihood.compare import compare
from kakusan.likelihood.step_groups import default_law
from kakusan.models.diffusion import Diffusion
from kakusan.run.evaluation_data import data_of, digest_of_data
from kakusan.run.trained_model import TrainedModel, load
from kakusan.timesteps import StepLaw

CLEAR = 2.0  # standard errors


def main(command: Compare) -> int:
    """Evaluate both on the same examples with the same noise, and print; with --json one object alone on stdout."""
    if command.limit is not None and command.limit < 2:
        raise InputError(f"--limit must be at least 2, got {command.limit}")
    models = [load(command.first, command.device), load(command.second, command.device)]
    for model in models:
        model.check_bound()
    kinds = [model.measured_in for model in models]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{command.first} measures {kinds[0]} and {command.second} {kinds[1]}; they cannot be compared"
        )
    dataset = data_of(command.first, models[0], command.data)
    models[1].check_data(dataset)
    if digest_of_data(command.second) != dataset.digest():
        tell(
            f"{command.second} was trained on other data or another split: some of these examples may be no news to it"
        )
    tell(f"on {dataset.describe()}")
    data = (dataset.test if command.split == "test" else dataset.train)[: command.limit]
    law = _common_law(models)
    results = []
    for path, model in zip((command.first, command.second), models):
        tell_measuring(len(data), f" by {path}")
        results.append(model.evaluate(data, command.seed, law=law))
    found = compare(*results)
    if command.json:
        names = (str(command.first), str(command.second))
        print(json.dumps({**found.record(), "runs": dict(zip(names, (r.record() for r in results)))}))
        return 0
    for path, result in zip((command.first, command.second), results):
        print(f"{path}: {result}")
    far = f"{abs(found.difference) / found.standard_error:.1f} standard errors" if found.standard_error else "exactly"
    print(
        f"difference {found.difference:+.4f} ± {found.standard_error:.4f} bits/dim over the same {found.num_images:,} "
        f"examples ({far}; unpaired it would be ± {found.unpaired_error:.4f})"
    )
    if found.standard_error and abs(found.difference) > CLEAR * found.standard_error:
        fewer = command.second if found.difference > 0 else command.first
        print(f"{fewer} needs fewer bits; in short runs that does not say whose samples look better")
    return 0


def _common_law(models: list[TrainedModel]) -> StepLaw | None:
    """One step law for two diffusion models of one depth, so that both are asked the same steps with the same noise."""
    chains = [model.chain for model in models]
    if not all(isinstance(chain, Diffusion) for chain in chains) or chains[0].depth != chains[1].depth:
        return None
    laws = [default_law(chain) for chain in chains if isinstance(chain, Diffusion)]
    return StepLaw((laws[0].probs + laws[1].probs) / 2)
