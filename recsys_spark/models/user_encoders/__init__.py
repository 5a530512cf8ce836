"""User encoders f_u: from the item vectors of a history to a user vector after each of its positions."""
