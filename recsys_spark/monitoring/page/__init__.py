"""The page of a monitored day: the last weeks, what changed, and every measure with a small plot."""

PAGE = "monitoring.html"
"""Its name among the stage's outputs and the run's artifacts."""
