"""Atomic, verified and durable files; independent of models."""
