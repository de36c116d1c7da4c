"""How good samples are: knows images, not models."""
