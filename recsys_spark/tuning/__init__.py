"""The search over a recommender's settings: trials of the select fit, judged by NDCG on the valid window."""
