"""The app as a configuration asks for it; what worker processes start from."""

from __future__ import annotations

import logging
import os

import torch

from recsys_spark.config import Config
from recsys_spark.online.opening import open_configured
from recsys_spark.redaction import start_logging
from recsys_spark.serving.app import create_app
from recsys_spark.serving.gate import Gate
from recsys_spark.serving.keys import keys_of

HANDED_ON = "RECSYS_SERVING_CONFIGURATION"
"""Through this variable worker processes learn the configuration, as JSON; it holds no secret."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configured_app(config: Config) -> Gate:
    """The app over the configured store. Raises UserError or StoreError where it cannot be run so."""
    torch.set_num_threads(config.serving.torch_threads)
    keys = keys_of(config.serving)
    return create_app(config, open_configured(config), keys)


def worker_app() -> Gate:
    """The app of a worker process."""
    start_logging(logging.INFO, LOG_FORMAT, times=None)
    return configured_app(Config.model_validate_json(os.environ[HANDED_ON]))
