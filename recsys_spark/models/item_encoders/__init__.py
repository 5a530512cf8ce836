"""Item encoders f_i: from tokens to item vectors, and the items' own popularity."""
