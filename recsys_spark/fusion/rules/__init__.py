"""Business rules, diversity and exploration: from fused scores to the lists that a shop wants to show.

Pure torch and numpy on blocks of scores; `lists.make_lists` is the whole. Letters besides those of
`recommenders.batch`: N candidates of a list, C eligible new items, P pins, G groups of a cap.
"""
