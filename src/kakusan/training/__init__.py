"""Optimization of a loss: the loop, optimizers, averages, precision, checkpoints, several processes."""
