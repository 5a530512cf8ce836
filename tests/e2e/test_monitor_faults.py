"""Seeded faults are caught by name through the job, people are told once, and quiet days are quiet.

One process runs job after job: faults of the last day's events, then a model that returns one list for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys_spark.monitoring.ledger import read_actions
from recsys_spark.promotion.ledger import read_decisions
from recsys_spark.tables.workspace import Workspace
from tests.e2e.conftest import Finished, read
from tests.e2e.seeded import GONE, LAST_DAY, ROBOT, ROBOT_ITEM, lines_of, run_jobs, write_shop
from tests.page import Page
from tests.receivers import Webhook, webhook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ACT = (
    "monitoring.on_alert={block_publication: [events.price_level, lists.same_list_share], "
    "roll_back: [lists.same_list_share]}"
)
TELL = "monitoring.notify={webhook_url_env: HOOK, pause_seconds: 0}"
SECRET = "T0KEN-that-nobody-may-see"


@dataclass(frozen=True)
class Story:
    """What each job of a process said."""

    workspace: Workspace
    ended: Finished
    hook: Webhook

    @property
    def lines(self) -> list[dict[str, Any]]:
        return lines_of(self.ended)

    @property
    def codes(self) -> list[int]:
        return [int(line[-1]) for line in self.ended.stderr.splitlines() if line.startswith("exit code ")]


def story(folder: Path, plan: list[tuple[str, list[str]]]) -> Story:
    config = write_shop(folder)
    with webhook(f"/{SECRET}") as hook:
        ended = run_jobs(config, plan, HOOK=hook.url, no_proxy="127.0.0.1")
    return Story(Workspace(str(folder / "workspace")), ended, hook)


def clean(folder: Path, log: str) -> tuple[str, list[str]]:
    return "clean_events", ["--set", f"source.path={folder}/{log}/*.csv"]


def monitor(days_back: int = 0, *given: str) -> tuple[str, list[str]]:
    day = LAST_DAY - timedelta(days=days_back)
    return "monitor", ["--date", str(day), "--set", ACT, "--set", TELL, *given]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("faults")
    popular = ["--set", "models=[popularity]"]
    lenient = (
        "promotion={min_users: 1, max_ndcg_loss: 1.0, beat_popularity: false, min_coverage: null, "
        "max_coverage_loss: null, max_segment_loss: null, max_popularity_gain: null, max_latency_ratio: null, "
        "max_latency_ms: null, latency_users: 1}"
    )
    plan = [
        *(clean(folder, "quiet"), ("build_features", []), monitor(1)),
        *(clean(folder, "cents"), monitor(), monitor()),
        *(clean(folder, "robot"), monitor(0, "--fail-on", "alert")),
        *(clean(folder, "category"), monitor()),
        *(clean(folder, "quiet"), ("build_features", [])),
        *(("run_pipeline", []), ("promote_model", ["--set", lenient]), monitor()),
        *(("run_pipeline", popular), ("promote_model", [*popular, "--set", lenient]), monitor()),
        ("fuse_recommendations", popular),
        ("monitor", ["--acknowledge", "Ann", "--comment", "the model is gone"]),
        ("fuse_recommendations", popular),
    ]
    told = story(folder, plan)
    assert len(told.lines) == len(plan), told.ended.stderr[-6000:]
    return told


def alerts(line: dict[str, Any]) -> str:
    """Kind, subject and sentence of each alert."""
    return "\n".join(f"{each['kind']} [{each['subject']}] {each['sentence']}" for each in line["alerts"])


def test_days_without_a_fault_raise_no_alert(told: Story) -> None:
    events_alone, everything = told.lines[2], told.lines[14]
    assert (events_alone["alerts"], everything["alerts"]) == ([], [])
    assert everything["counts"]["ok"] > events_alone["counts"]["ok"] > 0


def test_prices_in_cents_are_named_as_such(told: Story) -> None:
    said = alerts(told.lines[4])
    assert "events.price_level [] Price level: " in said
    assert "cost 100 times" in said
    assert "100 times is cents" in said


def test_a_robot_is_named_with_its_item(told: Story) -> None:
    said = alerts(told.lines[7])
    assert f"Busiest user: user {ROBOT} has 10,000 of " in said
    assert f"Busiest item: item {ROBOT_ITEM} has 10,0" in said
    assert "Category (" not in said, "the other categories are as they were"
    # An alert is a result, unless it is asked to be a fault.
    assert [told.codes[place] for place in (4, 5, 7)] == [0, 0, 3]


def test_a_category_that_vanishes_is_named(told: Story) -> None:
    assert f"Category ({GONE}): 0 events where " in alerts(told.lines[9])


def test_one_message_goes_out_for_each_fault_and_none_for_the_same_findings(told: Story) -> None:
    assert [posted["status"] for posted in told.hook.posted] == ["alert", "alert", "alert", "ok", "alert"]
    assert "Price level" in told.hook.posted[0]["text"]
    assert told.lines[5]["told"] == {}
    assert SECRET not in told.ended.stdout + told.ended.stderr


def test_an_alert_holds_up_publication_until_its_day_is_well(told: Story) -> None:
    price = [row.action for row in read_actions(told.workspace) if row.kind == "events.price_level"]
    assert price == ["held", "released"]
    assert told.lines[5]["held_up_by"] == [f"events.price_level of {LAST_DAY}"]
    assert told.lines[14]["held_up_by"] == []


def test_the_page_stands_where_the_json_line_says(told: Story) -> None:
    page = Page(Path(told.lines[4]["outputs"]["monitoring.html"]).read_text(encoding="utf-8"))
    assert f"Monitoring of {LAST_DAY}" in page.text
    assert "Publication is held up" in page.text


def rows(path: str | Path) -> list[str]:
    """All of the lists but for the run that made them: the champion made its own again in between."""
    return sorted(map(str, read(path).drop_columns(["run_id"]).to_pylist()))


def test_one_list_for_all_is_caught_and_the_champion_before_comes_back(told: Story) -> None:
    good, bad = told.lines[14], told.lines[17]
    assert "lists.same_list_share [] One list for all: 100 % of " in alerts(bad)
    assert (good["rolled_back"], bad["rolled_back"]) == (False, True)
    decided = [row["action"] for row in read_decisions(told.workspace.latest("promote_model"))]
    assert decided == ["promoted", "promoted", "rolled_back"]
    back = next(one for one in told.workspace.history("fuse_recommendations") if "restored_from" in one.facts)
    assert rows(back.path("recommendations")) == rows(told.lines[13]["outputs"]["recommendations"])


def test_publication_waits_for_somebody_who_says_why(told: Story) -> None:
    refused, acknowledged, done = told.lines[-3:]
    assert (refused["status"], told.codes[-3:]) == ("failed", [2, 0, 0])
    assert f"held up by the alert lists.same_list_share of {LAST_DAY}" in refused["error"]
    assert acknowledged["acknowledged"] == [f"lists.same_list_share of {LAST_DAY}"]
    assert done["status"] == "done"
    (row,) = [row for row in read_actions(told.workspace) if row.action == "acknowledged"]
    assert (row.person, row.comment) == ("Ann", "the model is gone")
