"""The work of the commands, usable from Python."""
