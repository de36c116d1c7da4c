"""Data as one tensor in memory: embedded digits, folders of IDX files, arrays. Knows files, not models."""
