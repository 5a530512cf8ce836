"""The job monitor: what it refuses, and what it tells MLflow."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from recsys_spark.errors import UserError
from recsys_spark.pipeline.command import main
from recsys_spark.pipeline.monitor import MOST_METRICS, _check_reached, alerts_of, counts_of, metrics_of
from recsys_spark.tables.pointer import Commit
from tests.shop import write_shop
from tests.unit.monitoring.findings import finding


@pytest.mark.parametrize("arguments", [("--acknowledge", "Ann"), ("--comment", "why")])
def test_an_acknowledgement_says_who_and_why(tmp_path: Path, arguments: tuple[str, str], capsys) -> None:
    config = write_shop(tmp_path)
    assert main("monitor", ["--config", str(config), *arguments]) == 2
    assert "--acknowledge needs --comment" in capsys.readouterr().err


def test_a_day_that_no_run_took_in_is_refused() -> None:
    daily = Commit("clean_events", 1, "", "", "", {}, as_of="2024-03-02T00:00:00")
    _check_reached(date(2024, 3, 1), daily)
    with pytest.raises(UserError, match=r"reaches to 2024-03-01; run jobs/clean_events\.py for 2024-03-02"):
        _check_reached(date(2024, 3, 2), daily)
    _check_reached(date(2024, 3, 9), Commit("clean_events", 1, "", "", "", {}))  # a day without events is a result


def test_metrics_are_named_by_kind_and_subject() -> None:
    findings = [finding("alert", value=3.0), finding("ok", subject="a b", value=1.0), finding("ok", "x.y", value=None)]
    assert metrics_of(findings) == {"monitor.events.price": 3.0, "monitor.events.price.a b": 1.0}
    assert counts_of(findings) == {"ok": 2, "warn": 0, "alert": 1}
    assert [alert["kind"] for alert in alerts_of(findings)] == ["events.price"]


def test_metrics_are_bounded() -> None:
    assert len(metrics_of([finding("ok", subject=str(n)) for n in range(2 * MOST_METRICS)])) == MOST_METRICS
