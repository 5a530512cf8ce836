"""An alert holds up publication until somebody acknowledges it or its day is well, and every step leaves a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_spark.config.alerting import OnAlert
from recsys_spark.errors import UserError
from recsys_spark.monitoring.actions import acknowledge, check_publication, plan
from recsys_spark.monitoring.ledger import Action, append, read_actions, standing
from recsys_spark.tables.workspace import Workspace
from tests.unit.monitoring.findings import DAY, earlier, finding

BLOCK = OnAlert(block_publication=("*",))
BAD = finding("alert", sentence="prices are 100 times those of the weeks before")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(str(tmp_path))


def named(rows: tuple[Action, ...] | list[Action]) -> list[tuple[str, str]]:
    return [(row.action, row.kind) for row in rows]


def test_nothing_follows_from_an_alert_unless_that_is_configured() -> None:
    nothing = plan(DAY, [BAD], [], OnAlert())
    assert (nothing.rows, nothing.standing, nothing.roll_back) == ((), (), None)


def test_only_alerts_of_the_configured_kinds_hold_up_publication() -> None:
    only = OnAlert.model_construct(block_publication=("events.price",), roll_back=("lists.same",))
    found = plan(DAY, [finding("warn"), finding("alert", "events.mix")], [], only)
    assert (found.rows, found.roll_back) == ((), None)
    found = plan(DAY, [BAD, finding("alert", "lists.same")], [], only, "run")
    assert named(found.rows) == [("held", "events.price")]
    assert found.rows == found.standing
    assert found.roll_back is not None
    assert found.roll_back.measure.key == "lists.same"


def test_a_day_that_is_monitored_again_holds_nothing_twice_and_lets_go_what_is_well() -> None:
    rows = list(plan(DAY, [BAD, finding("alert", "events.mix")], [], BLOCK).rows)
    assert plan(DAY, [BAD, finding("alert", "events.mix")], rows, BLOCK).rows == ()
    again = plan(DAY, [BAD], rows, BLOCK)
    assert named(again.rows) == [("released", "events.mix")]
    assert named(again.standing) == [("held", "events.price")]


def test_the_next_days_quiet_does_not_let_go_what_an_earlier_day_holds() -> None:
    rows = list(plan(earlier(1), [finding("alert", day=earlier(1))], [], BLOCK).rows)
    today = plan(DAY, [finding("ok")], rows, BLOCK)
    assert today.rows == ()
    assert [row.day for row in today.standing] == [earlier(1)]


ABOUT_OLD_LISTS = [finding("alert", "lists.same"), finding("alert", "scores.psi")]
ABOUT_LIVE_LISTS = [finding("alert", key) for key in ("outcomes.ndcg_ratio", "bias.gap", "lists.age_days")]


def test_lists_from_before_the_day_do_not_hold_up_the_next_ones() -> None:
    found = plan(DAY, [BAD, *ABOUT_OLD_LISTS, *ABOUT_LIVE_LISTS], [], BLOCK)
    assert named(found.standing) == [("held", "events.price")]
    assert list(found.passed) == [*ABOUT_OLD_LISTS, *ABOUT_LIVE_LISTS]


def test_lists_that_were_made_with_the_days_events_do_but_not_their_age_and_what_users_saw_before() -> None:
    found = plan(DAY, [*ABOUT_OLD_LISTS, *ABOUT_LIVE_LISTS], [], BLOCK, new_lists=True)
    assert named(found.standing) == [("held", "lists.same"), ("held", "scores.psi")]
    assert list(found.passed) == ABOUT_LIVE_LISTS
    # Older lists that are back and have the same fault do not let go what holds; lists without it do.
    assert plan(DAY, ABOUT_OLD_LISTS, found.rows, BLOCK).rows == ()
    assert named(plan(DAY, ABOUT_OLD_LISTS[:1], found.rows, BLOCK).rows) == [("released", "scores.psi")]


def test_publication_is_refused_in_one_line_that_names_the_alert_and_the_way_on(workspace: Workspace) -> None:
    check_publication(workspace)
    append(workspace, plan(DAY, [BAD, finding("alert", "events.mix")], [], BLOCK, "run").rows)
    with pytest.raises(UserError) as raised:
        check_publication(workspace)
    said = str(raised.value)
    assert "\n" not in said
    assert "held up by the alert events.price of 2024-03-24 (prices are 100 times those of the weeks before)" in said
    assert "by 1 more (events.mix)" in said
    assert "jobs/monitor.py --date 2024-03-24" in said
    assert "jobs/monitor.py --acknowledge NAME --comment TEXT" in said


def test_an_acknowledgement_lets_publication_go_on_and_says_who_and_why(workspace: Workspace) -> None:
    append(workspace, plan(DAY, [BAD], [], BLOCK, "run").rows)
    acknowledge(workspace, "Ann", "a sale")
    check_publication(workspace)
    held, row = read_actions(workspace)
    assert (held.action, held.run_id) == ("held", "run")
    assert (row.action, row.kind, row.day, row.person, row.comment) == (
        *("acknowledged", "events.price", DAY),
        *("Ann", "a sale"),
    )
    # The same alert found again does not ask a second time; another one does.
    assert plan(DAY, [BAD], read_actions(workspace), BLOCK).rows == ()
    other = plan(DAY, [BAD, finding("alert", subject="shoes")], read_actions(workspace), BLOCK)
    assert [(row.action, row.subject) for row in other.rows] == [("held", "shoes")]


def test_one_day_may_be_acknowledged_and_the_other_still_holds(workspace: Workspace) -> None:
    for day in (earlier(1), DAY):
        append(workspace, plan(day, [finding("alert", day=day)], [], BLOCK).rows)
    assert [row.day for row in acknowledge(workspace, "Ann", "known", DAY)] == [DAY]
    assert [row.day for row in standing(read_actions(workspace))] == [earlier(1)]
    with pytest.raises(UserError, match="no alert of 2024-03-24 holds up publication"):
        acknowledge(workspace, "Ann", "known", DAY)
    acknowledge(workspace, "Ann", "known")
    with pytest.raises(UserError, match="no alert holds up publication; nothing was changed"):
        acknowledge(workspace, "Ann", "known")


def test_rows_are_only_ever_added(workspace: Workspace) -> None:
    assert append(workspace, []) is None
    rows = [Action("sent", DAY, "", "webhook", "digest"), Action("not_sent", DAY, "", "email", "digest", comment="no")]
    for row in rows:
        append(workspace, [row])
    assert read_actions(workspace) == rows
    assert [commit.tables["alert_actions"] for commit in workspace.history("monitor.actions")] == [1, 2]
