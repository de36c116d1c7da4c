"""Two-level VAE of the study notes, with the same settings as mnist-hvae."""

import dataclasses

from kakusan.recipes.mnist_hvae import RECIPE as TWO_LEVELS

RECIPE = dataclasses.replace(TWO_LEVELS, name="book-hvae")
