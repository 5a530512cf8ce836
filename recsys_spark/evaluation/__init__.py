"""Measuring lists against what users did afterwards."""
