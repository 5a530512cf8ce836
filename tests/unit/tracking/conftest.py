"""A workspace with a tracker, and a fused model whose lists are known: popularity over four items."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.config.root import Config
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import single
from recsys_spark.recommenders.counts import Counts
from recsys_spark.tracking.cards import ModelCard
from recsys_spark.tracking.runs import Tracker

SOURCE = {"format": "csv", "path": "x.csv", "columns": {"user_id": "u", "item_id": "i", "event_time": "t"}}
AS_OF = datetime.datetime(2024, 3, 1)
# Item indices are not codes, so that mixing them up shows.
ITEMS = [(0, 14, "ale", "Pale ale"), (1, 12, "bread", "Bread"), (2, 11, "cheese", "Cheese"), (3, 13, "dates", "Dates")]


@pytest.fixture(scope="session")
def config():
    return Config.model_validate({"source": {**SOURCE, "event_type": "purchase"}})


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory):
    """Without history the list is dates, cheese, bread, ale."""
    root = tmp_path_factory.mktemp("fitted")
    rows = [dict(zip(("code", "item_index", "item_id", "title"), item, strict=True), count=1) for item in ITEMS]
    schema = pa.schema(
        [
            ("code", pa.int32()),
            ("item_index", pa.int32()),
            ("item_id", pa.string()),
            ("title", pa.string()),
            ("count", pa.int64()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), root / "vocabulary.parquet")
    Counts("popularity", torch.tensor([1.0, 2.0, 3.0, 4.0]), half_life_days=7.0).save(
        root / "bundle", root / "vocabulary.parquet"
    )
    settings = {"allow": single("popularity"), "drop": single("popularity")}
    bundles = {"popularity": root / "bundle"}
    FusedModel.save(root / "model", bundles, root / "bundle", settings, ("purchase",), {"purchase": 1.0})
    return root / "model"


@pytest.fixture(scope="session")
def histories(tmp_path_factory):
    """User anna bought dates (index 13) ten days before AS_OF, and 99, which the model does not know."""
    path = tmp_path_factory.mktemp("tables") / "histories"
    path.mkdir()
    purchase = EVENT_TYPES.index("purchase")
    ten_days_before = int((AS_OF - datetime.timedelta(days=10)).replace(tzinfo=datetime.UTC).timestamp())
    row = {"user_index": 1, "user_id": "anna", "items": [99, 13], "event_types": [purchase] * 2, "weights": [1.0] * 2}
    pq.write_table(
        pa.Table.from_pylist([{**row, "times": [0, ten_days_before], "folds": [0, 0]}]), path / "part-0.parquet"
    )
    (path / "_SUCCESS").touch()
    return path


@pytest.fixture(scope="session")
def card():
    return ModelCard(
        title="recsys-fused",
        what="Popular items first.",
        trained_on="8 purchases of 3 users",
        trained_until=AS_OF.isoformat(),
        settings={"half_life_days": 7.0},
        metrics={"test.ndcg_at_10": 0.25, "test.ndcg_at_20": 0.5, "test.ndcg_at_10.drop": 0.125},
    )


@pytest.fixture(scope="session")
def tracker(config, tmp_path_factory):
    """One for all tests: making MLflow's database takes a second and more."""
    return Tracker(config, tmp_path_factory.mktemp("tracked") / "workspace")


@pytest.fixture(scope="session")
def workspace(tracker):
    """The tracker's workspace."""
    return Path(tracker.uri.removeprefix("sqlite:///")).parent
