"""Losses: how far the scores of real positions are from what was chosen next. All return sums over positions."""
