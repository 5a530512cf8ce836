"""The reported tables, from the tables that the stage reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.csv as csv
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config import Config
from recsys_spark.pipeline.reported import logged_exposures, logged_files, measured_users, write_metrics
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tables.schemas import TABLES

PURCHASE, CUT = 4, 1_000_000
HISTORIES = [
    (1, "u", [1, 2, 1], [PURCHASE] * 3, [1.0] * 3, [0, 10, CUT + 5], [0, 0, 2]),
    (2, "v", [2, 3], [PURCHASE] * 2, [1.0] * 2, [0, CUT + 5], [0, 2]),
    (3, "idle", [3], [PURCHASE], [1.0], [0], [0]),
    (4, "exposed", [3], [PURCHASE], [1.0], [0], [0]),
]
ITEMS = [(i, f"i{i}", f"i{i}", "", "bread" if i < 3 else "wine", "", 1.0, None) for i in (1, 2, 3)]
LISTS = [("popularity", "allow", user, rank, f"i{rank}", 0.0) for user in ("u", "v", "exposed") for rank in (1, 2)]
LISTS += [("fused", "allow", "u", 1, "i1", 0.0), ("fused", "allow", "v", 1, "i3", 0.0)]


@dataclass
class Context(StageContext):
    """A stage's context whose inputs are given frames."""

    frames: dict[str, DataFrame] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def read_table(self, name: str) -> DataFrame:
        return self.frames[name]

    def facts(self, stage: str) -> dict[str, Any]:
        return {"cut_times": {"test": CUT}}


def context_of(spark: SparkSession, folder: Path, **evaluation: Any) -> Context:
    source = {"format": "csv", "path": "x", "columns": {"user_id": "u", "item_id": "i", "event_time": "t"}}
    config = Config.model_validate(
        {
            "source": {**source, "event_type": "purchase"},
            "models": ["popularity"],
            "evaluation": {"k": [2], "repeats": "allow", "bootstrap": 20, **evaluation},
        }
    )
    rows = {"histories": HISTORIES, "items": ITEMS, "item_vectors": []}
    frames = {name: spark.createDataFrame(given, TABLES[name].schema) for name, given in rows.items()}
    run = folder / "run"
    run.mkdir()
    told: list[str] = []
    nothing: Any = None
    return Context(
        stage="evaluate_models",
        config=config,
        workspace=nothing,
        as_of=datetime(1970, 1, 20),
        run_id="run",
        inputs={"build_datasets": SimpleNamespace(tables={"histories": len(HISTORIES)})},  # type: ignore[dict-item]
        run_directory=run,
        session=lambda: spark,
        progress=told.append,
        tracker=nothing,
        tracked=SimpleNamespace(log_artifact=lambda path, folder: None),  # type: ignore[arg-type]
        run_part=nothing,
        frames=frames,
        told=told,
    )


def test_three_tables_are_written_and_nothing_else_stays(spark: SparkSession, tmp_path: Path) -> None:
    at = "1970-01-12T13:46:41"  # a second after the cut, and four before u's purchase of i1
    shown = f"user,item,at,p\nexposed,i1,{at},0.5\nu,i1,{at},0.5\nu,i9,{at},0.5\n"
    (tmp_path / "shown.csv").write_text(shown, encoding="utf-8")
    columns = {"user_id": "user", "item_id": "item", "time": "at", "propensity": "p"}
    logged = {"format": "csv", "path": str(tmp_path / "shown.csv"), "options": {"header": "true"}, "columns": columns}
    context = context_of(spark, tmp_path, logged=logged)
    assert logged_files(context.config, context.tracker)[0][0] == str(tmp_path / "shown.csv")
    exposures = logged_exposures(context)
    users = measured_users(context, exposures)
    assert sorted(row["user_id"] for row in users.select("user_id").collect()) == ["exposed", "u", "v"]
    lists = spark.createDataFrame(LISTS, TABLES["evaluation_recommendations"].schema)
    told = write_metrics(context, users, lists, ["popularity", "fused"], "fused", 3, exposures)
    assert told == {"user_activity": [pytest.approx(4 / 3), pytest.approx(5 / 3)], "diversity": "categories"}
    assert "no item has a text vector" in context.told[0]
    assert sorted(path.name for path in context.run_directory.iterdir()) == [
        "evaluation",
        "evaluation_comparisons",
        "evaluation_metrics",
        "evaluation_segments",
    ]
    rows = context.written_table("evaluation_metrics").collect()
    values = {(row["model"], row["metric"]): row for row in rows}
    # u: i1 is relevant and first in both; v: i3 is first of fused and not in the other. The exposed are not measured.
    assert [values[model, "ndcg"]["value"] for model in ("popularity", "fused")] == [0.5, 1.0]
    assert values["fused", "ndcg"]["users"] == 2
    assert values["popularity", "coverage"]["value"] == pytest.approx(2 / 3)
    assert values["popularity", "novelty"]["users"] == 2
    # 3 exposures; one of an item in the list of a user who bought it, w = 1 / (2 x 0.5).
    assert values["popularity", "ips"]["value"] == pytest.approx(1 / 3)
    assert values["popularity", "ips_weight"]["value"] == pytest.approx(2 / 3)
    assert values["popularity", "ips"]["users"] == 2
    table = csv.read_csv(context.run_directory / "evaluation" / "evaluation_metrics.csv")
    assert table.num_rows == len(rows)
    segments = context.written_table("evaluation_segments").collect()
    assert {row["dimension"] for row in segments} == {"user_activity", "item_age", "item_popularity"}
    [compared] = context.written_table("evaluation_comparisons").where("metric = 'ndcg'").collect()
    assert (compared["model"], compared["against"], compared["difference"]) == ("fused", "popularity", 0.5)


def test_where_users_are_divided_may_be_given_and_nobody_exposed_is_looked_for(
    spark: SparkSession, tmp_path: Path
) -> None:
    context = context_of(spark, tmp_path, user_activity=[2, 9], similarity="category", bootstrap=0)
    assert logged_exposures(context) is None
    assert logged_files(context.config, context.tracker) is None
    users = measured_users(context, None)
    lists = spark.createDataFrame(LISTS, TABLES["evaluation_recommendations"].schema)
    told = write_metrics(context, users, lists, ["popularity", "fused"], "fused", 3)
    assert told == {"user_activity": [2, 9], "diversity": "categories"}
    rows = context.written_table("evaluation_segments").where("dimension = 'user_activity' AND metric = 'ndcg'")
    found = {(row["model"], row["segment"]): row for row in rows.collect()}
    assert {key: row["value"] for key, row in found.items() if key[0] == "popularity"} == {
        ("popularity", "new"): 0.0,
        ("popularity", "light"): 1.0,
    }
    assert found["popularity", "new"]["low"] is None
