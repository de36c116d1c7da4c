"""One module per command, called by `kakusan.cli`."""
