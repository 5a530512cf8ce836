"""Finding versions, and removing the old ones that nobody needs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from recsys_spark.errors import UserError
from recsys_spark.tables.pointer import Commit, publish
from recsys_spark.tables.workspace import Workspace


def commit(workspace: Workspace, stage: str, inputs: dict[str, int] | None = None, *, old: bool = True) -> Commit:
    run = workspace.new_run_directory(stage, "run")
    (run / "file").write_text(stage)
    directory = workspace.stage_directory(stage)
    result = publish(
        directory, stage, run, key="k", run_id="r", tables={}, inputs=inputs or {}, metrics={}, facts={}, as_of=None
    )
    if old:
        for path in (run, directory / "versions" / f"{result.version:08d}.json"):
            os.utime(path, (0, 0))
    return result


def versions(workspace: Workspace, stage: str) -> list[int]:
    return sorted(int(path.stem) for path in (workspace.stage_directory(stage) / "versions").glob("*.json"))


def test_old_versions_go_and_the_newest_stay(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    made = [commit(workspace, "clean_events") for _ in range(5)]
    workspace.prune(keep=2)
    assert versions(workspace, "clean_events") == [4, 5]
    assert [Path(c.directory).exists() for c in made] == [False, False, False, True, True]


def test_a_version_that_a_kept_one_was_made_from_stays(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    for _ in range(4):
        commit(workspace, "clean_events")
    commit(workspace, "build_features", {"clean_events": 2})
    workspace.prune(keep=1)
    assert versions(workspace, "clean_events") == [2, 4]


def test_a_pinned_version_stays(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    for _ in range(4):
        commit(workspace, "build_datasets")
    workspace.prune(keep=1, pinned=[("build_datasets", 1)])
    assert versions(workspace, "build_datasets") == [1, 4]


def test_a_version_superseded_a_moment_ago_stays_for_its_readers(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    for _ in range(3):
        commit(workspace, "clean_events", old=False)
    workspace.prune(keep=1)
    assert versions(workspace, "clean_events") == [1, 2, 3]


def test_run_directories_of_dead_writers_go(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    commit(workspace, "clean_events")
    dead = workspace.new_run_directory("clean_events", "dead")
    os.utime(dead, (0, 0))
    working = workspace.new_run_directory("clean_events", "working")
    workspace.prune(keep=1)
    assert not dead.exists()
    assert working.exists()


def test_what_a_dead_run_left_goes_after_a_week(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    for name in ("stale", "recent"):
        (workspace.scratch / name).mkdir(parents=True)
    os.utime(workspace.scratch / "stale", (time.time() - 8 * 24 * 3600,) * 2)
    os.utime(workspace.scratch / "recent", (time.time() - 6 * 24 * 3600,) * 2)
    assert workspace.prune(keep=1) == [workspace.scratch / "stale"]
    assert (workspace.scratch / "recent").is_dir()


def test_a_missing_stage_names_the_job_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing published by train_models; run jobs/train_models\.py first"):
        Workspace(str(tmp_path)).require("train_models.gru")


def test_an_unknown_table_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="table sales: unknown; known are alert_actions, backtest_metrics, clean_events, "
    ):
        Workspace(str(tmp_path)).table_commit("sales")


def test_a_store_that_is_not_mounted_is_refused() -> None:
    with pytest.raises(UserError, match="s3a://bucket/x: must be a local or mounted folder"):
        Workspace("s3a://bucket/x")


def test_a_folder_that_cannot_be_published_to_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Workspace(str(tmp_path / "new")).check()
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="must be a writable file system with hard links"):
        Workspace(str(tmp_path / "file")).check()

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UserError, match="hard links \\(Operation not supported\\)"):
        Workspace(str(tmp_path / "new")).check()
