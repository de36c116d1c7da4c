"""Losses that training minimizes."""
