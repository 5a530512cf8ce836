"""Scorers g: how a user vector and an item vector become a score.

A scorer first maps each user and each item on its own (`user_side`, `item_side`, done once for each), then joins them:
`matrix` for every user with every item, `pairs` for given items of each user. `laid_out` lays an item side out as
`matrix` reads it. `projects_items`: the item side differs from the item vector. `factorises`: the score is the dot
product of the two sides, as a softmax over the catalogue asks.
"""
