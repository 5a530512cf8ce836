"""What each metric says, in a line."""

MEANINGS = {
    "ndcg": "gain of the hits by their places, over that of the best possible list; 1 is best",
    "recall": "hits, over min(K, relevant items)",
    "precision": "hits, over K",
    "hit_rate": "share of users with a hit",
    "map": "sum over hits of the precision at each hit's place, over min(K, relevant items)",
    "mrr": "1 over the place of the first hit",
    "coverage": "share of the catalogue that stands in some list",
    "gini": "how unequally items are listed: 0 all alike, 1 one item has it all",
    "novelty": "how rare the listed items are, in bits; more is rarer",
    "popularity": "mean share of the users who had the listed items before",
    "popularity_lift": "popularity of the lists against that of the users' own items: 0 alike, 1 twice as popular",
    "diversity": "how unlike the items of a list are: 0 all alike, 1 nothing in common",
    "calibration": "how far a list's categories are from those of the user's history; 0 is best",
    "ips": "reward that these lists would have had, from logged exposures, by inverse propensity",
    "snips": "the same, self-normalised",
    "ips_weight": "mean importance weight; well below 1, the estimate is not to be trusted",
    "ips_sample": "effective number of logged exposures behind the estimate",
}
