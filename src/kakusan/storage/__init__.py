"""Bytes to the disk and back: whole, checked, durable. Knows no model."""
