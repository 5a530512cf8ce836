"""One model and one running service for the tests that change neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from recsys_spark.config import Config
from tests.unit.serving.service import configured, publication, publish, serving, write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "first")


@pytest.fixture
def config(tmp_path: Path, model: Path) -> Config:
    """A configuration whose store has publication 1; a kept list is looked at anew for each answer."""
    config = configured(tmp_path, {"cache": {"trust_seconds": 0}})
    publish(config, publication(model))
    return config


@pytest.fixture
def client(config: Config) -> Iterator[TestClient]:
    with serving(config) as client:
        yield client


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[TestClient]:
    """A service for the tests of a module that only ask."""
    config = configured(tmp_path_factory.mktemp("shop"), {"cache": {"trust_seconds": 0}})
    publish(config, publication(model))
    with serving(config) as client:
        yield client
