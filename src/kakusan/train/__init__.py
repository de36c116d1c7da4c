"""The trainer: knows a loss, not a model."""
