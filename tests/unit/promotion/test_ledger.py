"""Decisions are only ever added, and what an earlier champion needs is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.promotion.decisions import Champion, State
from recsys_spark.promotion.gates import Gate
from recsys_spark.promotion.ledger import Decision, append, read_decisions, rollback_pins, state_of
from recsys_spark.tables.links import publish_again
from recsys_spark.tables.pointer import Commit, publish
from recsys_spark.tables.schemas import TABLES
from recsys_spark.tables.workspace import Workspace

REFUSED = Decision("refused", "2", "1", [Gate("coverage", False, "too few", 0.1, 0.2)], lineage={"data_version": "7"})
APPROVED = Decision("promoted", "3", "1", [Gate("coverage", True, "")], "Ann", "read the report")


def committed(workspace: Workspace, decisions: list[Decision], state: State, run_id: str) -> Commit:
    run = workspace.new_run_directory("promote_model", run_id)
    rows = append(workspace.latest("promote_model"), run / "promotions", decisions, "recsys-fused", run_id)
    return publish(
        workspace.stage_directory("promote_model"),
        "promote_model",
        run,
        key="k",
        run_id=run_id,
        tables={"promotions": rows},
        inputs={},
        metrics={},
        facts={"state": state.to_json()},
        as_of=None,
    )


def lists(workspace: Workspace, text: str) -> Commit:
    """A version of the published lists whose one file says `text`."""
    run = workspace.new_run_directory("fuse_recommendations", text)
    (run / "recommendations").mkdir()
    (run / "recommendations" / "part-0.parquet").write_text(text)
    directory = workspace.stage_directory("fuse_recommendations")
    made = publish(
        directory,
        "fuse_recommendations",
        run,
        key=f"key of {text}",
        run_id=text,
        tables={"recommendations": 1},
        inputs={},
        metrics={},
        facts={"served_version": text},
        as_of=None,
    )
    for path in (run, directory / "versions" / f"{made.version:08d}.json"):
        os.utime(path, (0, 0))
    return made


def test_every_version_holds_all_earlier_rows_and_the_new_ones(tmp_path: Path, spark: SparkSession) -> None:
    workspace = Workspace(str(tmp_path))
    assert read_decisions(None) == []
    committed(workspace, [REFUSED], State(), "first")
    second = committed(workspace, [APPROVED, REFUSED], State(), "second")
    rows = read_decisions(second)
    assert [row["decision_id"] for row in rows] == ["000001", "000002", "000003"]
    assert [row["run_id"] for row in rows] == ["first", "second", "second"]
    assert [row["passed"] for row in rows] == [False, True, False]
    assert (rows[1]["approved_by"], rows[1]["comment"]) == ("Ann", "read the report")
    assert json.loads(rows[0]["lineage"]) == {"data_version": "7"}
    assert json.loads(rows[0]["gates"])[0]["bound"] == 0.2
    frame = workspace.read_table(spark, "promotions", second)
    assert frame.schema == TABLES["promotions"].schema
    assert [row["action"] for row in frame.orderBy("decision_id").collect()] == ["refused", "promoted", "refused"]


def test_the_lists_of_earlier_champions_outlive_the_count_of_versions(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    for text in ("a", "b", "c", "d"):
        lists(workspace, text)
    state = State((Champion("4", "content-4"), Champion("2", "content-2", {}, {"train_models": 9}, published=2)))
    committed(workspace, [APPROVED], state, "run")
    assert rollback_pins(workspace) == [("fuse_recommendations", 2), ("train_models", 9)]
    workspace.prune(1, rollback_pins(workspace))
    assert [commit.version for commit in workspace.history("fuse_recommendations")] == [2, 4]
    assert state_of(workspace.latest("promote_model")) == state


def test_what_is_published_again_is_the_same_and_outlives_the_first(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    first = lists(workspace, "a")
    lists(workspace, "b")
    again = publish_again(workspace, first, {"restored_from": first.version})
    assert (again.version, again.key, again.run_id, again.tables) == (3, first.key, first.run_id, first.tables)
    assert again.facts == {"served_version": "a", "restored_from": 1}
    workspace.prune(1)
    assert not Path(first.directory).exists()
    assert (again.path("recommendations") / "part-0.parquet").read_text() == "a"
