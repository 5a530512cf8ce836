"""Fitted recommenders: scorers that turn a batch of histories into scores over items."""
