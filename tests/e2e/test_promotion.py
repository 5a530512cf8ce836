"""Champions from the command line: gates, a person, the published lists, the way back, and what made a row."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys_spark.config import load_config
from recsys_spark.tracking.runs import Tracker
from tests.e2e.conftest import ROOT, Finished, finish, read, run_job
from tests.shop import DAYS, START, write_shop

pytestmark = pytest.mark.slow
GOOD = ("--set", "models=[popularity, repurchase, item_knn, ease]")
BAD = ("--set", "models=[popularity]")
LENIENT = (
    *("--set", "promotion.max_ndcg_loss=1.0", "--set", "promotion.beat_popularity=false"),
    *("--set", "promotion.min_coverage=null", "--set", "promotion.max_coverage_loss=null"),
    *("--set", "promotion.max_segment_loss=null", "--set", "promotion.max_popularity_gain=null"),
    *("--set", "promotion.max_latency_ratio=null", "--set", "promotion.approval=required"),
)
LAST_DAY = START.date() + timedelta(days=DAYS - 1)


def done(job: str, config: Path, *arguments: str) -> dict[str, Any]:
    ended = run_job(job, config, *arguments)
    assert ended.code == 0, ended.stderr[-4000:]
    return ended.line


def rows(line: dict[str, Any]) -> list[str]:
    """All of the published lists, in an order of their own."""
    return sorted(map(str, read(line["outputs"]["recommendations"]).to_pylist()))


def gate(line: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in line["gates"] if each["name"] == name]
    return found


@dataclass(frozen=True)
class Story:
    """What each job said, in the order of the story."""

    config: Path
    first: dict[str, Any]
    promoted: dict[str, Any]
    again: dict[str, Any]
    worse: dict[str, Any]
    refused: dict[str, Any]
    strict: Finished
    waiting: dict[str, Any]
    approved: dict[str, Any]
    back: dict[str, Any]
    too_far: Finished

    def champions(self) -> dict[str, str]:
        """Registered model to the version that is champion now."""
        client = Tracker(load_config([str(self.config)]), self.config.parent / "workspace").client
        models = client.search_registered_models()
        return {model.name: str(model.aliases["champion"]) for model in models if "champion" in model.aliases}

    def tracking(self, *arguments: str) -> Finished:
        command = [sys.executable, "-m", "recsys_spark.tracking", *arguments, "--config", str(self.config)]
        return finish(command, ROOT)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    config = write_shop(tmp_path_factory.mktemp("promotion"))
    return Story(
        config,
        first=done("run_pipeline", config, *GOOD),
        promoted=done("promote_model", config, *GOOD),
        again=done("run_pipeline", config, *GOOD),
        worse=done("run_pipeline", config, *BAD),
        refused=done("promote_model", config, *BAD),
        strict=run_job("promote_model", config, *BAD, "--strict"),
        waiting=done("promote_model", config, *BAD, *LENIENT),
        approved=done("promote_model", config, *BAD, *LENIENT, "--approve", "Ann", "--comment", "read the report"),
        back=done("promote_model", config, "--rollback", "--by", "Bob", "--comment", "too popular"),
        too_far=run_job("promote_model", config, "--rollback"),
    )


def test_the_first_challenger_needs_no_champion_and_its_lists_stay_as_they_are(story: Story) -> None:
    line = story.promoted
    assert (line["decision"], line["passed"], line["challenger"], line["champion_before"]) == (
        "promoted",
        True,
        "1",
        None,
    )
    assert gate(line, "ndcg_not_worse")["passed"] is None
    assert gate(line, "beats_popularity")["passed"] is True
    assert rows(line) == rows(story.first)
    assert gate(line, "latency")["value"] > 0


def test_a_promotion_is_nothing_that_a_further_run_has_to_catch_up_with(story: Story) -> None:
    assert {stage["status"] for stage in story.again["stages"].values()} == {"skipped"}
    assert story.again["outputs"]["recommendations"] == story.promoted["outputs"]["recommendations"]


def test_the_champion_publishes_although_a_run_made_another_challenger(story: Story) -> None:
    """Same histories, same date: the champion's lists are the same row for row, but for the run that made them."""

    def without_run(line: dict[str, Any]) -> list[str]:
        table = read(line["outputs"]["recommendations"]).drop_columns(["run_id"])
        return sorted(map(str, table.to_pylist()))

    assert without_run(story.worse) == without_run(story.first)


def test_a_worse_challenger_is_refused_and_the_gate_says_by_how_much(story: Story) -> None:
    line = story.refused
    assert (line["decision"], line["passed"], line["champion"]) == ("refused", False, "1")
    failed = gate(line, "ndcg_not_worse")
    assert failed["passed"] is False
    assert failed["value"] < failed["bound"] < 0
    assert f"missed by {failed['bound'] - failed['value']:.4f}" in failed["text"]
    assert rows(line) == rows(story.worse)


def test_strict_turns_a_refusal_into_an_exit_code(story: Story) -> None:
    assert story.strict.code == 1
    assert story.strict.line["decision"] == "refused"
    assert "gate ndcg_not_worse: failed: " in story.strict.stderr


def test_a_person_is_waited_for_and_then_the_lists_change(story: Story) -> None:
    assert (story.waiting["decision"], story.waiting["champion"]) == ("waiting", "1")
    assert rows(story.waiting) == rows(story.worse)
    assert (story.approved["decision"], story.approved["champion"]) == ("promoted", "2")
    assert story.approved["gates"] == story.waiting["gates"]
    assert rows(story.approved) != rows(story.worse)


def test_going_back_restores_alias_and_lists_exactly_and_no_further_than_there_is(story: Story) -> None:
    assert (story.back["decision"], story.back["champion"]) == ("rolled_back", "1")
    assert rows(story.back) == rows(story.worse)
    assert story.champions() == {
        "recsys-fused": "1",
        **{f"recsys-{name}": "1" for name in ("popularity", "repurchase", "item_knn", "ease")},
    }
    assert story.too_far.code == 2
    assert "no earlier champion to go back to (recsys-fused/1 is the first)" in story.too_far.stderr


def test_every_decision_is_kept_with_who_why_and_what_it_was_about(story: Story) -> None:
    table = read(story.back["outputs"]["promotions"]).to_pylist()
    assert [row["action"] for row in table] == [
        "promoted", "refused", "refused", "waiting", "promoted", "rolled_back",
    ]  # fmt: skip
    assert [(row["challenger"], row["champion"]) for row in table[-3:]] == [("2", "1"), ("2", "1"), ("1", "2")]
    assert (table[4]["approved_by"], table[4]["comment"]) == ("Ann", "read the report")
    assert (table[5]["approved_by"], table[5]["comment"]) == ("Bob", "too popular")
    lineage = json.loads(table[0]["lineage"])
    assert {"data_version", "id_map_version", "split_version", "code_version", "components"} <= set(lineage)
    assert set(lineage["components"]) == {"recsys-popularity", "recsys-repurchase", "recsys-item_knn", "recsys-ease"}


def test_a_row_leads_to_the_model_the_data_the_configuration_and_the_code(story: Story) -> None:
    run = read(story.back["outputs"]["recommendations"]).column("run_id")[0].as_py()
    told = story.tracking("lineage", run)
    assert told.code == 0, told.stderr
    for part in ("model recsys-fused/1, champion", "component recsys-ease/1", "clean_events version 1", "libraries: ",
                 "models: [\"popularity\"]"):  # fmt: skip
        assert part in told.stdout, told.stdout
    found = json.loads(story.tracking("lineage", run, "--json").stdout)
    assert found["model"]["content"] == read(story.back["outputs"]["recommendations"])["model_version"][0].as_py()
    histories = found["inputs"]["build_datasets/1"]["tables"]["histories"]
    assert (histories["rows"], histories["path"]) == (60, story.first["outputs"]["histories"])
    assert found["made_with"]["libraries"]["pyspark"]
    unknown = story.tracking("lineage", "0123456789abcdef")
    assert (unknown.code, unknown.stderr.count("\n")) == (2, 1)
    assert "no kept version" in unknown.stderr


def test_who_is_what_is_listed(story: Story) -> None:
    told = story.tracking("models").stdout
    assert "recsys-fused@champion: version 1\n" in told
    assert "recsys-fused/1 rolled_back over 2 by Bob: too popular" in told


def test_a_champion_of_another_day_is_measured_without_having_seen_the_window_or_not_at_all(tmp_path: Path) -> None:
    config = write_shop(tmp_path / "shop")
    week_before = str(LAST_DAY - timedelta(days=7))
    auto = (*GOOD, "--set", "promotion.auto=true")
    first = done("run_pipeline", config, *auto, "--date", week_before)
    assert (first["decision"], first["champion"]) == ("promoted", "1")
    again = done("run_pipeline", config, *auto, "--date", week_before)
    assert {stage["status"] for stage in again["stages"].values()} == {"skipped"}

    # A week later the frozen test fit of the champion, from before the window, is scored on the window.
    done("run_pipeline", config, *GOOD)
    later = run_job("promote_model", config, *GOOD)
    assert later.code == 0, later.stderr[-4000:]
    assert "its test fit of 2024-03-04T00:00:00 scores the window that starts at 2024-03-11T00:00:00" in later.stderr
    assert gate(later.line, "ndcg_not_worse")["passed"] is not None
    lenient = done("promote_model", config, *GOOD, *LENIENT, "--approve", "Ann", "--comment", "newer")
    assert lenient["champion"] == "2"

    # The other way round the champion would have seen the window.
    done("run_pipeline", config, *GOOD, "--date", week_before)
    saw = done("promote_model", config, *GOOD)
    assert saw["decision"] == "refused"
    assert "it saw what it would be measured on" in gate(saw, "ndcg_not_worse")["text"]
    without = done("promote_model", config, *GOOD, "--set", "promotion.incomparable=skip")
    assert gate(without, "ndcg_not_worse")["passed"] is None


def test_bad_requests_are_one_line(tmp_path: Path) -> None:
    config = write_shop(tmp_path / "shop")
    for arguments, said in (
        (("--approve", "Ann"), "need --comment"),
        (("--rollback",), "has no champion"),
        ((), "nothing published by"),
    ):
        ended = run_job("promote_model", config, *arguments)
        assert ended.code == 2
        assert said in ended.stderr.strip().splitlines()[-1]
    assert run_job("promote_model", config, "--rollback", "--approve", "Ann").code == 2
