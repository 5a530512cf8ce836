"""A workspace with published lists, as fuse_recommendations leaves one, without Spark and without MLflow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys_spark.config import Config
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import single
from recsys_spark.online.opening import open_configured
from recsys_spark.online.publishing import Published, publish_batch
from recsys_spark.online.store import OnlineStore
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.history_rules import HistoryRules
from recsys_spark.tables.pointer import publish
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.runs import Tracker

ITEMS = ("ale", "bread", "cheese")
AS_OF = datetime(2024, 1, 10, tzinfo=UTC).timestamp()
HISTORIES = {"anna": (1, 2, 1), "ben": (3,), "carl": ()}
"""Item indices; an event each day up to the last one before AS_OF."""
HISTORY_COLUMNS = {
    "user_index": pa.int32(),
    "user_id": pa.string(),
    "items": pa.list_(pa.int32()),
    "event_types": pa.list_(pa.int32()),
    "weights": pa.list_(pa.float32()),
    "times": pa.list_(pa.int64()),
    "folds": pa.list_(pa.int32()),
}
COMPONENTS = pa.map_(pa.string(), pa.float32())


class NoRegistry:
    """Stands in for MLflow where nothing of it is needed."""


class Shop:
    """A workspace with what fuse_recommendations reads and writes."""

    def __init__(self, root: Path) -> None:
        self.config = Config.model_validate(
            {
                "workspace": str(root / "workspace"),
                "source": {"format": "csv", "path": "none.csv", "columns": columns(), "event_type": "purchase"},
                "fusion": {"k": 2},
            }
        )
        self.workspace = Workspace(self.config.workspace)
        self.root = root
        self.commit("build_features", {"item_ids": item_ids()}, {})
        self.commit("build_datasets", {"histories": histories()}, {})

    def commit(self, stage: str, tables: dict[str, list[pa.Table]], facts: dict[str, Any], model: bool = False) -> Path:
        directory = self.workspace.new_run_directory(stage, "r" * 12)
        for name, parts in tables.items():
            (directory / name).mkdir()
            for number, part in enumerate(parts):
                pq.write_table(part, directory / name / f"part-{number}.parquet", row_group_size=3)
        if model:
            write_model(directory)
            facts = {"model_version": version_of(directory / "model"), **facts}
            facts.setdefault("served_model_version", facts["model_version"])
        rows = {name: sum(part.num_rows for part in parts) for name, parts in tables.items()}
        inputs = {"build_datasets": 1, "build_features": 1} if model else {}
        made = publish(
            self.workspace.stage_directory(stage), stage, directory, key="k", run_id="r" * 12, tables=rows,
            inputs=inputs, metrics={}, facts=facts, as_of="2024-01-10T00:00:00",
        )  # fmt: skip
        return Path(made.directory)

    def lists(self, key: str = "one", rows: list[dict[str, Any]] | None = None, **facts: Any) -> Path:
        """Commit lists as fuse_recommendations does."""
        told = {"lists_key": key, "lists_run_id": "r" * 12, "served_version": "1", "k": 2, "repeats": "allow", **facts}
        version = self.model_version(told)
        rows = rows if rows is not None else list_rows(version)
        parts = [table_of_lists(rows[:4]), table_of_lists(rows[4:])]
        return self.commit("fuse_recommendations", {"recommendations": parts}, told, model=True)

    def model_version(self, facts: dict[str, Any]) -> str:
        if "served_model_version" in facts:
            return str(facts["served_model_version"])
        scratch = self.root / "scratch"
        if not scratch.exists():
            write_model(scratch)
        return version_of(scratch / "model")

    def store(self) -> OnlineStore:
        return open_configured(self.config)

    def publish(self, store: OnlineStore) -> Published:
        return publish_batch(store, self.config, self.workspace, cast(Tracker, NoRegistry()))


def columns() -> dict[str, str]:
    return {"user_id": "u", "item_id": "i", "event_time": "t"}


def item_ids() -> list[pa.Table]:
    return [pa.table({"item_id": ITEMS, "item_index": pa.array([1, 2, 3], pa.int32())})]


def histories() -> list[pa.Table]:
    rows = [
        {
            "user_index": number,
            "user_id": user,
            "items": items,
            "event_types": [4] * len(items),
            "weights": [1.0] * len(items),
            "times": [int(AS_OF) - 86400 * (len(items) - n) for n in range(len(items))],
            "folds": [0] * len(items),
        }
        for number, (user, items) in enumerate(HISTORIES.items(), 1)
    ]
    schema = pa.schema(list(HISTORY_COLUMNS.items()))
    return [pa.Table.from_pylist(rows[:2], schema), pa.Table.from_pylist(rows[2:], schema)]


def list_rows(version: str) -> list[dict[str, Any]]:
    """Two rows a user; carl's are popular ones."""
    told = {"anna": ("ale", "bread"), "carl": ("cheese", "ale"), "ben": ("bread", "cheese")}
    return [
        {
            "user_id": user,
            "rank": rank,
            "item_id": item,
            "score": 0.1 / rank,
            "reason": f"because {rank}",
            "components": [("popularity" if user == "carl" else "repurchase", 0.1 / rank)],
            "model_version": version,
        }
        for user, items in told.items()
        for rank, item in enumerate(items, 1)
    ]


def table_of_lists(rows: list[dict[str, Any]]) -> pa.Table:
    types = {"user_id": pa.string(), "rank": pa.int32(), "item_id": pa.string(), "score": pa.float32()}
    types |= {"reason": pa.string(), "components": COMPONENTS, "model_version": pa.string()}
    return pa.Table.from_pylist(rows, pa.schema(list(types.items())))


def write_model(directory: Path) -> None:
    rows = [{"code": n, "item_index": n + 1, "item_id": name, "title": name} for n, name in enumerate(ITEMS)]
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = directory / "vocabulary.parquet"
    pq.write_table(pa.Table.from_pylist(rows), vocabulary)
    Counts("popularity", torch.tensor([1.0, 2.0, 3.0]), 7.0).save(directory / "popularity", vocabulary)
    HistoryRules("repurchase", torch.full((3,), 0.5), 30.0, (4,)).save(directory / "repurchase", vocabulary)
    both = {"allow": single("repurchase"), "drop": single("repurchase")}
    bundles = {"repurchase": directory / "repurchase"}
    weights = {"purchase": 1.0, "view": 0.25}
    FusedModel.save(directory / "model", bundles, directory / "popularity", both, ("purchase",), weights)  # type: ignore[arg-type]


def version_of(model: Path) -> str:
    return f"recsys-fused-{file_sha256(model / MANIFEST)[:16]}"
