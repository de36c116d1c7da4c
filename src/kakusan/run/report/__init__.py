"""HTML report of a run, made from its directory alone."""
