"""Configuration: frozen models of every key, and how they are loaded."""

from recsys_spark.config.loading import load_config
from recsys_spark.config.root import Config

__all__ = ["Config", "load_config"]
