"""What each verb does; `cli` parses and calls."""
