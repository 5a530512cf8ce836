"""Other ways to start the jobs, other splits, other places to publish to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from tests.e2e.conftest import ROOT, Shop, finish, read, run_job
from tests.shop import purchases

pytestmark = pytest.mark.slow

SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"


def test_a_job_runs_under_spark_submit_from_another_directory_with_the_package_shipped(
    shop: Shop, tmp_path: Path
) -> None:
    archive = tmp_path / "recsys_spark.zip"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "build_zip.py"), str(archive)], check=True)
    workspace = tmp_path / "workspace"
    command = [
        *(str(SUBMIT), "--master", "local[2]", "--py-files", str(archive)),
        *(str(ROOT / "jobs" / "clean_events.py"), "--config", str(shop.config)),
        *("--set", f"workspace={workspace}", "--set", "spark.master=null"),
    ]
    ended = finish(command, tmp_path, PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable)
    assert ended.code == 0, ended.stderr[-3000:]
    again = read(ended.line["outputs"]["clean_events"])
    key = [("source_file", "ascending"), ("source_order", "ascending")]
    assert again.sort_by(key).equals(shop.table("clean_events").sort_by(key))


def test_views_in_the_metastore_show_the_newest_version_to_sql(shop: Shop, tmp_path: Path) -> None:
    """In Spark's embedded metastore; read by another process, with nothing but SQL."""
    metastore = f"jdbc:derby:;databaseName={tmp_path / 'metastore'};create=true"
    settings = [
        "tables.catalog=shop",
        f"workspace={tmp_path / 'workspace'}",
        f'spark.conf={{spark.hadoop.javax.jdo.option.ConnectionURL: "{metastore}", '
        f'spark.sql.warehouse.dir: "{tmp_path / "warehouse"}"}}',
    ]
    arguments = [word for setting in settings for word in ("--set", setting)]
    for _ in range(2):  # the second publication replaces the view
        ended = run_job("clean_events", shop.config, *arguments, cwd=tmp_path)
        assert ended.code == 0, ended.stderr[-3000:]
    query = f"""
from pyspark.sql import SparkSession
spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").enableHiveSupport()
    .config("spark.hadoop.javax.jdo.option.ConnectionURL", {metastore!r}).getOrCreate())
row = spark.sql("SELECT count(*) AS rows, count(DISTINCT user_id) AS users FROM shop.clean_events").first()
print(row["rows"], row["users"], spark.sql("SHOW CREATE TABLE shop.clean_events").first()[0].replace("\\n", " "))
"""
    said = subprocess.run(
        [sys.executable, "-c", query], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert said.split()[:2] == [str(len(purchases())), "60"]
    assert ended.line["outputs"]["clean_events"] in said


def test_leave_one_out_holds_out_each_users_last_event_and_poisoning_it_changes_nothing(
    shop: Shop, tmp_path: Path
) -> None:
    settings = ("--set", "split={strategy: leave_one_out}", "--set", "evaluation.cold=miss")
    result = run_job("run_pipeline", shop.config, *settings, "--set", f"workspace={tmp_path / 'a'}")
    assert result.code == 0, result.stderr[-3000:]
    histories = read(result.line["outputs"]["histories"]).to_pylist()
    assert all(row["folds"][-2:] == [1, 2] and set(row["folds"][:-2]) == {0} for row in histories)
    assert result.line["metrics"]["test.hit_rate_at_10"] > 0.3

    # The last row of each customer in the file's order of time becomes an item that nobody else has.
    raw = (shop.folder / "landing" / "sales.csv").read_text().splitlines()
    last: dict[str, int] = {}
    for number, (customer, *_rest) in enumerate(purchases(), start=1):
        last[customer] = number
    lines = [
        line.replace(line.split(",")[1], "POISON") if number in last.values() else line
        for number, line in enumerate(raw)
    ]
    folder = tmp_path / "landing"
    folder.mkdir()
    (folder / "sales.csv").write_text("\n".join(lines) + "\n")
    poisoned = run_job(
        "run_pipeline",
        shop.config,
        *settings,
        *("--set", f"workspace={tmp_path / 'b'}", "--set", f"source.path={folder}/*.csv"),
    )
    assert poisoned.code == 0, poisoned.stderr[-3000:]
    for name in ("popularity", "repurchase", "item_knn", "ease", "mfn", "gru"):
        manifests = {
            next(
                (tmp_path / side / "stages" / f"train_models.{name}" / "runs").glob("*/select/manifest.json")
            ).read_text()
            for side in "ab"
        }
        assert len(manifests) == 1, f"{name} saw the held-out items"


def test_the_same_inputs_and_date_give_the_same_tables_with_more_processes_and_average_fusion(
    shop: Shop, tmp_path: Path
) -> None:
    """Two forced runs into one workspace: equal in everything but the run's id."""
    arguments = (
        *(
            "--set",
            f"workspace={tmp_path / 'w'}",
            "--set",
            "fusion.method=average",
            "--set",
            "training.num_processes=2",
        ),
        "--force",
    )
    runs = [run_job("run_pipeline", shop.config, *arguments) for _ in range(2)]
    for result in runs:
        assert result.code == 0, result.stderr[-3000:]
    for table, path in runs[0].line["outputs"].items():
        if not Path(path).is_dir():
            continue  # the report is no table
        rows = [
            sorted(
                str({key: value for key, value in row.items() if key != "run_id"})
                for row in read(result.line["outputs"][table]).to_pylist()
            )
            for result in runs
        ]
        assert rows[0] == rows[1], table


def test_every_job_alone_gives_what_the_pipeline_gives(shop: Shop, tmp_path: Path) -> None:
    settings = ("--set", f"workspace={tmp_path / 'w'}", "--set", "models=[popularity, repurchase, item_knn, ease]")
    jobs = (
        "clean_events", "build_features", "build_datasets", "fit_features", "train_models", "evaluate_models",
        "fuse_recommendations",
    )  # fmt: skip
    outputs: dict[str, str] = {}
    for job in jobs:
        ended = run_job(job, shop.config, *settings, cwd=tmp_path)
        assert ended.code == 0, ended.stderr[-3000:]
        assert ended.line["job"] == job
        outputs |= ended.line["outputs"]
    whole = run_job("run_pipeline", shop.config, *settings, "--set", f"workspace={tmp_path / 'v'}")
    assert whole.code == 0, whole.stderr[-3000:]
    for table, path in outputs.items():
        if not Path(path).is_dir():
            continue  # the report is no table
        assert _rows(path) == _rows(whole.line["outputs"][table]), table


def _rows(path: str) -> list[str]:
    return sorted(str({key: value for key, value in row.items() if key != "run_id"}) for row in read(path).to_pylist())
