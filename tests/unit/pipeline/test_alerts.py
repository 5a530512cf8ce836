"""What a job does about the findings that it published: each step is recorded, and none is done twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recsys_spark.config.alerting import Notify, OnAlert
from recsys_spark.config.monitoring import Monitoring
from recsys_spark.errors import UserError
from recsys_spark.monitoring.finding import Finding
from recsys_spark.monitoring.ledger import read_actions
from recsys_spark.monitoring.measured import write_day
from recsys_spark.pipeline import fuse, kept, promote
from recsys_spark.pipeline.alerts import MONITOR, acknowledged, respond
from recsys_spark.promotion import ledger as promotions
from recsys_spark.promotion.decisions import State
from recsys_spark.tables.pointer import Commit, publish
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import Registered
from tests.receivers import webhook
from tests.unit.monitoring.findings import DAY, finding

SAME = finding("alert", "lists.same_list_share", sentence="all users have one list")
BOTH = OnAlert(block_publication=("*",), roll_back=("lists.same_list_share",))
END = datetime(2024, 3, 25)


class Jobs:
    """Stands in for the runner: it knows how to go back, and counts how often it did."""

    def __init__(
        self, root: Path, on_alert: OnAlert, error: Exception | None = None, notify: Notify | None = None
    ) -> None:
        self.workspace = Workspace(str(root))
        self.config = SimpleNamespace(monitoring=Monitoring(on_alert=on_alert, notify=notify or Notify()))
        self.error = error
        self.back: list[str] = []
        self.views: list[str] = []

    def replace_views(self, commit: Commit) -> None:
        self.views.append(commit.stage)

    def run(self, stage: Any) -> None:
        if self.error:
            raise self.error
        request = stage.run.keywords["request"]
        assert (request.rollback, request.by) == (True, MONITOR)
        self.back.append(request.comment)
        self.decided("rolled_back", MONITOR, request.comment)

    def decided(self, action: Any, person: str | None = None, comment: str = "") -> None:
        decision = promotions.Decision(action, "1", "2", approved_by=person, comment=comment)
        before = self.workspace.latest("promote_model")
        run = self.workspace.new_run_directory("promote_model", str(before.version if before else 0))
        promotions.append(before, run / "promotions", [decision], "recsys-fused", "run")
        self.committed("promote_model", run, state=State().to_json())

    def committed(self, stage: str, run: Path, as_of: datetime | None = None, **facts: Any) -> Commit:
        return publish(
            self.workspace.stage_directory(stage),
            stage,
            run,
            key="k",
            run_id="run",
            tables={},
            inputs={},
            metrics={},
            facts=facts,
            as_of=as_of.isoformat() if as_of else None,
        )

    def lists(self, model: str, as_of: datetime = END, served: str = "champion") -> Commit:
        run = self.workspace.new_run_directory("fuse_recommendations", f"{model}-{as_of:%d}")
        return self.committed("fuse_recommendations", run, as_of, served_model_version=model, served=served)

    def monitored(self, *findings: Finding, day: date = DAY) -> dict[str, Any]:
        before = self.workspace.latest("monitor")
        run = self.workspace.new_run_directory("monitor", str(before.version if before else 0))
        (run / "monitoring").mkdir()
        write_day(before, run / "monitoring", day, findings, "run")
        return respond(cast(Any, self), self.committed("monitor", run), day)

    def actions(self) -> list[tuple[str, str]]:
        return [(row.action, row.kind) for row in read_actions(self.workspace)]


def test_quiet_days_leave_nothing(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, BOTH)
    assert jobs.monitored(finding("ok")) == {"held_up_by": [], "rolled_back": False, "told": {}}
    assert jobs.workspace.latest("monitor.actions") is None


def test_an_alert_holds_up_publication_and_brings_the_champion_before_back_once(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, BOTH)
    jobs.lists("bad")
    assert jobs.monitored(SAME) == {
        "held_up_by": ["lists.same_list_share of 2024-03-24"],
        "rolled_back": True,
        "told": {},
    }
    assert jobs.back == ["alert of 2024-03-24: lists.same_list_share: all users have one list"]
    assert jobs.actions() == [("held", "lists.same_list_share"), ("rolled_back", "lists.same_list_share")]
    assert "fuse_recommendations" in jobs.views
    assert jobs.monitored(SAME)["rolled_back"] is False
    assert (len(jobs.back), len(jobs.actions())) == (1, 2)


def test_lists_of_another_model_than_the_bad_one_stay(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, BOTH)
    jobs.lists("bad")
    jobs.lists("newer", END + timedelta(days=1))
    assert jobs.monitored(SAME)["rolled_back"] is False
    assert jobs.back == []
    assert jobs.actions()[-1] == ("not_rolled_back", "lists.same_list_share")
    assert "another model's" in (read_actions(jobs.workspace)[-1].comment or "")


def test_where_there_is_no_way_back_the_job_goes_on_and_says_so(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, BOTH, error=UserError("--rollback: no earlier champion to go back to"))
    jobs.lists("bad")
    assert jobs.monitored(SAME)["rolled_back"] is False
    assert read_actions(jobs.workspace)[-1].comment == "--rollback: no earlier champion to go back to"


def test_the_look_before_new_lists_are_made_does_not_judge_them_by_yesterdays(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, OnAlert(block_publication=("*",)))
    jobs.lists("bad", END - timedelta(days=1))
    assert jobs.monitored(SAME)["held_up_by"] == []
    jobs.lists("bad")
    assert jobs.monitored(SAME)["held_up_by"] == ["lists.same_list_share of 2024-03-24"]


def next_day(jobs: Jobs, number: int) -> dict[str, Any]:
    """The alert persists on lists that were made on a later day."""
    day = DAY + timedelta(days=number)
    jobs.lists("older", END + timedelta(days=number))
    return jobs.monitored(replace(SAME, measure=replace(SAME.measure, day=day)), day=day)


def test_an_alert_that_persists_takes_one_champion_back_and_no_further(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, BOTH)
    jobs.decided("promoted")
    jobs.lists("bad")
    assert jobs.monitored(SAME)["rolled_back"] is True
    jobs.decided("refused")
    assert [next_day(jobs, number)["rolled_back"] for number in (1, 2)] == [False, False]
    assert "went back already" in (read_actions(jobs.workspace)[-1].comment or "")
    jobs.decided("promoted")
    assert next_day(jobs, 3)["rolled_back"] is True
    jobs.decided("rolled_back", "Ann")
    assert next_day(jobs, 4)["rolled_back"] is True, "that was somebody else's way back"


def test_lists_that_are_not_the_champions_are_no_reason_to_go_back(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, BOTH)
    jobs.lists("bad", served="challenger")
    assert jobs.monitored(SAME)["rolled_back"] is False
    assert "not the champion's" in (read_actions(jobs.workspace)[-1].comment or "")


def test_where_going_back_breaks_people_are_told_before_the_job_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with webhook() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        jobs = Jobs(tmp_path, BOTH, RuntimeError("S3CRET"), Notify(webhook_url_env="HOOK"))
        jobs.lists("bad")
        with pytest.raises(RuntimeError, match="S3CRET"):
            jobs.monitored(SAME)
    assert [row.action for row in read_actions(jobs.workspace)] == ["held", "not_rolled_back", "sent"]
    assert "not rolled back for lists.same_list_share: RuntimeError." in hook.posted[0]["text"]
    assert "S3CRET" not in hook.posted[0]["text"] + repr(read_actions(jobs.workspace))


def test_a_message_that_no_server_took_is_sent_by_the_next_days_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with webhook() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        jobs = Jobs(tmp_path, OnAlert(roll_back=BOTH.roll_back), notify=Notify(webhook_url_env="HOOK"))
        jobs.lists("bad")
        hook.answers = [404]
        assert jobs.monitored(SAME)["told"] == {"webhook": "the server answered 404"}
        tomorrow = DAY + timedelta(days=1)
        assert jobs.monitored(finding("ok", day=tomorrow), day=tomorrow)["told"] == {"webhook": "sent"}
        assert jobs.monitored(finding("ok", day=tomorrow), day=tomorrow)["told"] == {}
    assert [posted["day"] for posted in hook.posted] == ["2024-03-24", "2024-03-24"]
    assert hook.posted[1]["done"] == [
        "This could not be delivered when the day was monitored.",
        "The champion before and its lists are back, because of lists.same_list_share.",
    ]


def test_an_acknowledgement_names_what_it_lets_pass(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, OnAlert(block_publication=("*",)))
    jobs.lists("bad")
    jobs.monitored(SAME)
    told = acknowledged(cast(Any, jobs), "Ann", "known", None)
    assert told["acknowledged"] == ["lists.same_list_share of 2024-03-24"]
    assert Path(told["outputs"]["alert_actions"]).is_dir()


def held(root: Path) -> Workspace:
    jobs = Jobs(root, OnAlert(block_publication=("*",)))
    jobs.lists("bad")
    jobs.monitored(SAME)
    return jobs.workspace


@pytest.mark.parametrize("run", [fuse.run, kept.run])
def test_lists_are_not_made_while_an_alert_holds_them_up(tmp_path: Path, run: Any) -> None:
    config = SimpleNamespace(evaluation=SimpleNamespace(only=False))
    context = SimpleNamespace(config=config, workspace=held(tmp_path), as_of=END)
    with pytest.raises(UserError, match=r"^publication is held up by the alert lists\.same_list_share of 2024-03-24"):
        run(context)


def test_nobody_is_promoted_meanwhile_and_no_alias_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[Sequence[Any]] = []
    monkeypatch.setattr(promote, "set_champions", lambda *arguments: moved.append(arguments))
    promotion = SimpleNamespace(keep_champions=3)
    context = SimpleNamespace(config=SimpleNamespace(promotion=promotion), workspace=held(tmp_path))
    challenger = Registered("recsys-fused", "2", "somewhere", "run")
    with pytest.raises(UserError, match="publication is held up"):
        promote._promote(cast(Any, context), State(), challenger, None)
    assert moved == []
