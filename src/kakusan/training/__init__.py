"""Minimization of a loss: the loop, optimizers, weight averages, precision, checkpoints and distributed training."""
