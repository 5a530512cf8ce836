"""Which recommenders are fitted again when the features of items change."""

from __future__ import annotations

from typing import Any

import pytest

from recsys_spark.config import Config
from recsys_spark.pipeline.train import part

SOURCE = {
    "format": "csv",
    "path": "unused",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}


def upstream(name: str, **changes: Any) -> tuple[str, ...]:
    return part(name, Config.model_validate({"source": SOURCE, **changes})).upstream


@pytest.mark.parametrize("name", ["content_knn", "segment_popularity", "kim_cnn", "bert", "two_tower"])
def test_those_that_read_features_depend_on_them(name: str) -> None:
    assert upstream(name) == ("build_datasets", "fit_features", "train_models.popularity")


@pytest.mark.parametrize("name", ["item_knn", "als", "mfn", "gru"])
def test_the_others_do_not(name: str) -> None:
    assert upstream(name) == ("build_datasets", "train_models.popularity")


def test_it_is_the_composition_that_counts() -> None:
    changed = {
        "recommenders": {
            "gru": {"item_encoder": ["id", "attributes"]},
            "kim_cnn": {"item_encoder": "id", "id_dropout": 0, "affinity": []},
        }
    }
    assert "fit_features" in upstream("gru", **changed)
    assert "fit_features" not in upstream("kim_cnn", **changed)
