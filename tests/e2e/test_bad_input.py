"""Bad input ends in one line that says what, where and what to do, and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recsys_spark.pipeline.command import main
from tests.e2e.conftest import run_job
from tests.shop import write_shop


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("bad"))


def refused(config: Path, *arguments: str, job: str = "clean_events") -> str:
    """The one line that the job says."""
    ended = run_job(job, config, *arguments)
    assert ended.code == 2, ended.stderr[-2000:]
    assert ended.line["status"] == "failed"
    said = [line for line in ended.stderr.splitlines() if line.startswith(f"{job}: ") and not _is_log(line)]
    assert len(said) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    published = {path.parts[-3] for path in (config.parent / "workspace").glob("stages/*/versions/*.json")}
    assert published <= {"run_pipeline"}, "something besides job_runs was published"
    return said[0]


def _is_log(line: str) -> bool:
    return line[:2].isdigit()


def test_a_missing_configuration_file(config: Path) -> None:
    assert "nowhere.yaml: cannot be read" in refused(config.parent / "nowhere.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fusion.methd=average", "fusion.methd: unknown key"),
        ("fusion.k=0", "fusion.k: Input should be greater than 0"),
        ("models=[gru, magic]", "models.1: Input should be"),
        ("split.strategy=random", "split.strategy: Input should be 'temporal' or 'leave_one_out'"),
        ("datasets.row_groups=3&training.num_processes=2", "row_groups (3) must be a multiple"),
        ("fusion", "--set fusion: write it as a.b=value"),
        ("workspace=s3a://bucket/shop", "must be a local or mounted folder"),
        ("tables.catalog=shop;drop", "must be a plain database name"),
    ],
)
def test_a_wrong_configuration_names_the_key(
    config: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    overrides = [word for setting in override.split("&") for word in ("--set", setting)]
    assert main("clean_events", ["--config", str(config), *overrides]) == 2
    ended = capsys.readouterr()
    assert ended.err.startswith("clean_events: ")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1
    assert json.loads(ended.out)["status"] == "failed"


def test_a_date_that_is_none(config: Path) -> None:
    ended = run_job("clean_events", config, "--date", "yesterday")
    assert ended.code == 2
    assert "'yesterday' is not a date like 2017-12-31" in ended.stderr


def test_a_missing_file_is_named(config: Path) -> None:
    assert "nothing-*.csv" in refused(config, "--set", "source.path=landing/nothing-*.csv")


@pytest.mark.slow  # starts a Spark of its own, as the tests beside it do
def test_a_missing_column_is_named_with_those_there_are(config: Path) -> None:
    said = refused(config, "--set", "source.columns.item_id=Article")
    assert "Article" in said
    assert "StockCode" in said


def test_an_empty_file_is_named(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("CustomerID,StockCode,InvoiceDate,InvoiceNo,Quantity,UnitPrice\n")
    said = refused(config, "--set", f"source.path={tmp_path / 'empty.csv'}")
    assert "empty.csv: there are no rows in it; check path and options" in said


def test_a_stage_without_its_upstream_names_the_job_to_run_first(config: Path) -> None:
    said = refused(config, job="train_models")
    assert "nothing published by build_datasets; run jobs/build_datasets.py first" in said
