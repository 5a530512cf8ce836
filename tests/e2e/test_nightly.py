"""Three nights with faults end in the tables of three nights without; a run that takes too long leaves nothing."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from recsys_spark.scheduling.job_runs import read_runs
from recsys_spark.tables.workspace import Workspace
from tests.e2e.conftest import ROOT, Finished, finish, read
from tests.e2e.nightly import deliver, write_config

TABLES = ("clean_events", "quarantine", "user_ids", "item_ids", "items", "histories")


@dataclass(frozen=True)
class Nights:
    days: list[str]
    ended: Finished
    faulty: Workspace
    faultless: Workspace

    @property
    def codes(self) -> list[int]:
        return [int(code) for code in re.findall(r"^exit code (\d)$", self.ended.stderr, re.MULTILINE)]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ended.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    folder = tmp_path_factory.mktemp("nights")
    days = deliver(folder / "landing")
    faultless, faulty = (str(write_config(folder, name)) for name in ("faultless", "faulty"))
    again = ("--set", "schedule={retries: 1, retry_seconds: 0}")
    plan = [
        *({"arguments": ["--config", faultless, "--date", day], "faults": []} for day in days),
        {"arguments": ["--config", faulty, "--date", days[0]], "faults": []},
        {
            "arguments": ["--config", faulty, "--catch-up", "--date", days[2], *again],
            "faults": [["build_features", days[1], "raise"], ["clean_events", days[2], "kill"]],
        },
        {
            "arguments": [
                *("--config", faulty, "--date", days[2], "--force"),
                *("--set", "schedule={limit_minutes: 0.2, retries: 3}"),
            ],
            "faults": [["clean_events", days[2], "hang"]],
        },
    ]
    (folder / "plan.json").write_text(json.dumps(plan))
    ended = finish([sys.executable, "-m", "tests.e2e.nightly", str(folder / "plan.json")], ROOT)
    return Nights(days, ended, Workspace(str(folder / "faulty")), Workspace(str(folder / "faultless")))


@pytest.mark.slow
def test_after_faults_the_tables_are_those_of_a_run_without(nights: Nights) -> None:
    assert nights.codes == [0, 0, 0, 0, 0, 1], nights.ended.stderr[-4000:]
    for name in TABLES:
        tables = [read(workspace.table_commit(name).path(name)) for workspace in (nights.faulty, nights.faultless)]
        rows = [
            sorted(str({key: value for key, value in row.items() if key != "run_id"}) for row in table.to_pylist())
            for table in tables
        ]
        assert rows[0] == rows[1], name
        assert rows[0] or name == "quarantine", name
    # Nothing was published twice: as many versions as nights.
    for stage in ("clean_events", "build_features", "build_datasets"):
        assert nights.faulty.require(stage).version == nights.faultless.require(stage).version == 3


@pytest.mark.slow
def test_missed_nights_are_caught_up_in_order_and_each_attempt_is_recorded(nights: Nights) -> None:
    first, second, third = nights.days
    assert [(str(row["date"]), row["attempt"], row["status"]) for row in read_runs(nights.faulty)] == [
        (first, 1, "done"),
        (second, 1, "failed"),
        (second, 2, "done"),
        (third, 1, "failed"),
        (third, 2, "done"),
        (third, 1, "timed_out"),
    ]
    caught_up = nights.lines[4]
    assert [(entry["date"], entry["status"]) for entry in caught_up["days"]] == [(second, "done"), (third, "done")]
    failed = read_runs(nights.faulty)[1]
    assert failed["error"] == "RuntimeError: the power went"
    assert failed["run_id"]
    done = read_runs(nights.faulty)[4]
    assert done["rows_in"] == nights.faulty.require("clean_events").facts["report"]["rows_in"] > 0
    assert done["run_id"] == caught_up["run_id"]


@pytest.mark.slow
def test_a_run_over_its_limit_stops_itself_and_publishes_nothing(nights: Nights) -> None:
    line = nights.lines[5]
    assert line["status"] == "timed_out"
    assert line["error"] == "stopped at its time limit of 0.2 minutes (schedule.limit_minutes)"
    assert line["seconds"] < 120
    said = [text for text in nights.ended.stderr.splitlines() if text.startswith("run_pipeline: ")]
    assert said == [f"run_pipeline: {line['error']}"]
    assert nights.faulty.require("clean_events").version == 3
