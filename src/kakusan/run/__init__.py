"""What a command does, usable from Python."""
