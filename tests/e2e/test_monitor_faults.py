"""Seeded faults are caught by name through the job, people are told once, and quiet days are quiet.

Two stories, each of them one process that runs job after job: faults of the day's events, and a model that returns one
list for all.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys_spark.monitoring.ledger import Action, read_actions
from recsys_spark.promotion.ledger import read_decisions
from recsys_spark.tables.workspace import Workspace
from tests.e2e.conftest import ROOT, Finished, finish, read
from tests.e2e.seeded import GONE, LAST_DAY, ROBOT, ROBOT_ITEM, write_shop
from tests.page import Page
from tests.receivers import Webhook, webhook

pytestmark = pytest.mark.slow
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
        return [json.loads(line) for line in self.ended.stdout.splitlines() if line.startswith("{")]

    @property
    def codes(self) -> list[int]:
        return [int(line[-1]) for line in self.ended.stderr.splitlines() if line.startswith("exit code ")]

    def monitored(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["job"] == "monitor"]

    def of(self, action: str) -> list[Action]:
        return [row for row in read_actions(self.workspace) if row.action == action]


def story(folder: Path, plan: list[tuple[str, list[str]]]) -> Story:
    config = write_shop(folder)
    (folder / "plan.json").write_text(json.dumps([[job, ["--config", str(config), *given]] for job, given in plan]))
    with webhook(f"/{SECRET}") as hook:
        command = [sys.executable, "-m", "tests.e2e.seeded", str(folder / "plan.json")]
        ended = finish(command, ROOT, HOOK=hook.url, no_proxy="127.0.0.1")
    return Story(Workspace(str(folder / "workspace")), ended, hook)


def clean(folder: Path, log: str) -> tuple[str, list[str]]:
    return "clean_events", ["--set", f"source.path={folder}/{log}/*.csv"]


def monitor(days_back: int = 0, *given: str) -> tuple[str, list[str]]:
    day = LAST_DAY - timedelta(days=days_back)
    return "monitor", ["--date", str(day), "--set", ACT, "--set", TELL, *given]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("events")
    plan = [
        *(clean(folder, "quiet"), ("build_features", []), monitor(1), monitor()),
        *(clean(folder, "cents"), monitor(), monitor()),
        *(clean(folder, "robot"), monitor(0, "--fail-on", "alert")),
        *(clean(folder, "category"), monitor()),
        *(clean(folder, "quiet"), monitor()),
    ]
    told = story(folder, plan)
    assert len(told.monitored()) == 7, told.ended.stderr[-4000:]
    return told


def alerts(line: dict[str, Any]) -> str:
    """Kind, subject and sentence of each alert."""
    return "\n".join(f"{each['kind']} [{each['subject']}] {each['sentence']}" for each in line["alerts"])


def test_quiet_days_raise_no_alert_and_nobody_is_told(events: Story) -> None:
    for line in events.monitored()[:2]:
        assert (line["status"], line["alerts"]) == ("done", [])


def test_prices_in_cents_are_named_as_such(events: Story) -> None:
    line = events.monitored()[2]
    assert "Price level: " in alerts(line)
    assert "cost 100 times" in alerts(line)
    assert "100 times is cents" in alerts(line)


def test_a_robot_is_named_with_its_item(events: Story) -> None:
    line = events.monitored()[4]
    assert f"Busiest user: user {ROBOT} has 10,000 of " in alerts(line)
    assert f"Busiest item: item {ROBOT_ITEM} has 10,0" in alerts(line)
    assert "Category (" not in alerts(line), "the other categories are as they were"
    # An alert is a result, unless it is asked to be a fault.
    assert [events.codes[place] for place in (5, 6, 8)] == [0, 0, 3], "in cents twice, the robot"


def test_a_category_that_vanishes_is_named(events: Story) -> None:
    line = events.monitored()[5]
    assert f"Category ({GONE}): 0 events where " in alerts(line)


def test_one_message_goes_out_for_each_day_and_fault_and_none_for_the_same_findings(events: Story) -> None:
    statuses = [posted["status"] for posted in events.hook.posted]
    assert statuses == ["alert", "alert", "alert", "ok"]
    assert "Price level" in events.hook.posted[0]["text"]
    assert events.monitored()[3]["told"] == {}
    assert SECRET not in events.ended.stdout + events.ended.stderr


def test_an_alert_holds_up_publication_until_its_day_is_well(events: Story) -> None:
    assert [row.kind for row in events.of("held")] == ["events.price_level"]
    assert [row.kind for row in events.of("released")] == ["events.price_level"]
    assert events.monitored()[3]["held_up_by"] == [f"events.price_level of {LAST_DAY}"]
    assert events.monitored()[6]["held_up_by"] == []


def test_the_page_stands_where_the_json_line_says(events: Story) -> None:
    line = events.monitored()[2]
    page = Page(Path(line["outputs"]["monitoring.html"]).read_text(encoding="utf-8"))
    assert f"Monitoring of {LAST_DAY}" in page.text
    assert "Publication is held up" in page.text


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("model")
    popular = ["--set", "models=[popularity]"]
    lenient = (
        "promotion={min_users: 1, max_ndcg_loss: 1.0, beat_popularity: false, min_coverage: null, "
        "max_coverage_loss: null, max_segment_loss: null, max_popularity_gain: null, max_latency_ratio: null, "
        "max_latency_ms: null}"
    )
    plan = [
        ("run_pipeline", []),
        ("promote_model", ["--set", lenient]),
        monitor(),
        ("run_pipeline", popular),
        ("promote_model", [*popular, "--set", lenient]),
        monitor(),
        ("fuse_recommendations", popular),
        ("monitor", ["--acknowledge", "Ann", "--comment", "the model is gone"]),
        ("fuse_recommendations", popular),
    ]
    told = story(folder, plan)
    assert len(told.lines) == len(plan), told.ended.stderr[-6000:]
    return told


def test_one_list_for_all_is_caught_and_the_champion_before_comes_back(model: Story) -> None:
    good, bad = model.monitored()[:2]
    assert good["alerts"] == []
    assert "One list for all: " in alerts(bad)
    assert (good["rolled_back"], bad["rolled_back"]) == (False, True)
    decided = [row["action"] for row in read_decisions(model.workspace.latest("promote_model"))]
    assert decided == ["promoted", "promoted", "rolled_back"]
    first = read(model.lines[1]["outputs"]["recommendations"])
    back = next(one for one in model.workspace.history("fuse_recommendations") if "restored_from" in one.facts)
    assert read(back.path("recommendations")).sort_by("user_id") == first.sort_by("user_id")


def test_publication_waits_for_somebody_who_says_why(model: Story) -> None:
    refused, acknowledged, done = model.lines[-3:]
    assert (refused["status"], model.codes[-3:]) == ("failed", [2, 0, 0])
    assert f"held up by the alert lists.same_list_share of {LAST_DAY}" in refused["error"]
    assert acknowledged["acknowledged"] == [f"lists.same_list_share of {LAST_DAY}"]
    assert done["status"] == "done"
    (row,) = model.of("acknowledged")
    assert (row.person, row.comment) == ("Ann", "the model is gone")
