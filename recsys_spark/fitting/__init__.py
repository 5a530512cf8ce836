"""How each recommender is fitted: from the datasets and histories of one fit into a bundle."""
