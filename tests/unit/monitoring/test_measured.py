"""The table `monitoring`: a day that is done again replaces its rows and no other; and what a context sees of them."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from recsys_spark.monitoring.context import Window, _files_of
from recsys_spark.monitoring.finding import Finding
from recsys_spark.monitoring.measured import STAGE, TABLE, read_findings, write_day
from recsys_spark.tables.pointer import Commit, publish
from recsys_spark.tables.workspace import Workspace
from tests.unit.monitoring.findings import DAY, earlier, finding


def commit(workspace: Workspace, day: date, *findings: Finding, run_id: str = "run") -> Commit:
    directory = workspace.new_run_directory(STAGE, run_id)
    (directory / TABLE).mkdir()
    write_day(workspace.latest(STAGE), directory / TABLE, day, findings, run_id)
    return publish(
        workspace.stage_directory(STAGE),
        STAGE,
        directory,
        key="",
        run_id=run_id,
        tables={TABLE: 0},
        inputs={},
        metrics={},
        facts={},
        as_of=None,
    )


def test_a_day_that_is_done_again_replaces_its_rows_and_no_other(tmp_path: Path) -> None:
    workspace, before = Workspace(str(tmp_path)), earlier(1)
    commit(workspace, before, finding("warn", value=2.0, day=before))
    commit(workspace, DAY, finding("alert", value=3.0), finding("ok", subject="gone"))
    commit(workspace, DAY, finding("ok", value=1.0, reference=4.0))
    found = read_findings(workspace.latest(STAGE))
    assert [(row.measure.day, row.status, row.measure.value) for row in found] == [
        (before, "warn", 2.0),
        (DAY, "ok", 1),
    ]
    assert found[1] == finding("ok", value=1.0, reference=4.0)


def test_other_days_are_linked_not_copied(tmp_path: Path) -> None:
    workspace, before = Workspace(str(tmp_path)), earlier(1)
    first = commit(workspace, before, finding("ok", day=before))
    second = commit(workspace, DAY, finding("ok"))
    name = f"{before}.parquet"
    assert (first.path(TABLE) / name).stat().st_ino == (second.path(TABLE) / name).stat().st_ino


def test_only_the_days_that_are_asked_for_are_read(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    for back in (3, 2, 1, 0):
        commit(workspace, earlier(back), finding("ok", value=float(back), day=earlier(back)))
    found = read_findings(workspace.latest(STAGE), earlier(2), earlier(1))
    assert [row.measure.value for row in found] == [2.0, 1.0]
    assert read_findings(None) == []


def test_infinite_and_unknown_values_come_back_as_they_were(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    whole = [finding("alert", subject="a", value=float("inf")), finding("ok", subject="b", value=None)]
    commit(workspace, DAY, *whole)
    assert read_findings(workspace.latest(STAGE)) == whole


def test_a_day_without_measures_has_no_rows(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    commit(workspace, DAY)
    assert read_findings(workspace.latest(STAGE)) == []


def test_only_files_of_the_windows_days_are_opened(tmp_path: Path) -> None:
    table = tmp_path / "clean_events"
    table.mkdir()
    names = [f"{DAY - timedelta(days=back)}.bucket-0000.parquet" for back in (40, 28, 1, 0)]
    for name in (*names, "all.bucket-0001.parquet", "empty.parquet"):
        (table / name).touch()
    clean = Commit("clean_events", 1, "", "", str(tmp_path), {})
    windows = [Window(DAY - timedelta(days=28), DAY), Window(DAY, DAY + timedelta(days=1))]
    opened = [path.rpartition("/")[2] for path in _files_of(clean, windows)]
    assert opened == sorted([*names[1:], "all.bucket-0001.parquet", "empty.parquet"])


def test_what_is_usual_is_the_median_of_earlier_days(tmp_path: Path) -> None:
    from tests.watched import Watched  # the context needs no session for what was measured

    shop = Watched(None, tmp_path)  # type: ignore[arg-type]
    for back in range(8, 0, -1):
        value = 100.0 if back == 3 else float(back)
        commit(shop.workspace, earlier(back), finding("ok", value=value, day=earlier(back)))
    commit(shop.workspace, DAY, finding("ok", value=-1.0))
    context = shop.context(DAY)
    assert context.usual("events.price") == 5.5  # of 1, 2, 4, 5, 6, 7, 8, 100
    assert context.usual("events.price", "other") is None
    assert context.history("events.price")[""][0] == (earlier(8), 8.0)
