"""One page for one run: knows a run directory, not a model."""
