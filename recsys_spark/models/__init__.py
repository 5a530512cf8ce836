"""The networks: pure torch, architecture alone, one idea a file.

A user vector comes from the history, an item vector from the item, a scorer joins the two, a loss trains them.

Legend of shape letters: B users, L positions, D dimensions, I items, R distinct items of a training step (row 0 is the
padding), P real positions of a step (packed: padding left out), N negatives shared by a step, K items a user or
position, H hidden units. Tokens are item code + 1; token 0 is padding and stands after the real positions.
"""
