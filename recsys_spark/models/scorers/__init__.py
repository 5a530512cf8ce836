"""Scorers g: how a user vector and an item vector become a score.

A scorer first maps each user and each item on its own (`user_side`, `item_side`, done once for each), then joins them:
`matrix` for every user with every item, `pairs` for given items of each user.
"""
