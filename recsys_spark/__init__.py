"""recsys_spark: a recommender for an e-commerce shop, run as Spark jobs."""

__version__ = "0.1.0"
