"""One module per command; `cli` parses and calls."""
