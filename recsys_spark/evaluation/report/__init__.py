"""The report of an evaluation: one page that a reviewer reads before a model is promoted."""

REPORT = "report.html"
"""Its name among the stage's outputs and the run's artifacts."""
