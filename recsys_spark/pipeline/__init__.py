"""Stages: how a job's work is keyed, skipped, run and committed."""
