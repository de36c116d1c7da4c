"""Shared test code: helpers, planted faults, the disk model, hostile inputs."""
