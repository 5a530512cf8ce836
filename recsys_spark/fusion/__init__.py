"""How scores of several recommenders become one explained list."""
