"""The quality report of a run: what came in, what became of it, and whether that may be published."""
