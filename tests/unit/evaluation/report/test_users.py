"""The sampled users, read from written tables."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from recsys_spark.evaluation.report.content import Bought, Listed, Past
from recsys_spark.evaluation.report.users import Sources, sampled_histories, sampled_users
from tests.unit.evaluation.report.conftest import PURCHASE, TEST, TRAIN, Event, write_histories


def test_only_users_whom_the_metrics_are_about_are_drawn(sources: Sources) -> None:
    assert set(sampled_histories(sources, 50)["user_id"].to_pylist()) == {"anna", "bert"}
    viewed = replace(sources, targets=("view",))
    assert set(sampled_histories(viewed, 50)["user_id"].to_pylist()) == {"anna", "only viewed in the test window"}


def test_the_drawn_ones_are_in_the_order_of_their_hashes(tmp_path: Path) -> None:
    events: list[Event] = [("ale", PURCHASE, 0, TRAIN), ("ale", PURCHASE, 31, TEST)]
    users = [f"u{number}" for number in range(40)]
    write_histories(tmp_path / "histories", dict.fromkeys(users, events))
    sources = Sources(tmp_path / "histories", tmp_path, tmp_path, ("purchase",), "allow")
    drawn = sampled_histories(sources, 7)["user_id"].to_pylist()
    assert drawn == sorted(users, key=lambda user: hashlib.sha256(user.encode()).hexdigest())[:7]


def test_a_user_is_shown_with_history_purchases_and_lists(sources: Sources) -> None:
    histories = sampled_histories(sources, 50)
    reasons = {"fused": {("anna", "ale"): "you buy this about every 10 days", ("bert", "ale"): "not of anna"}}
    users = {user.user_id: user for user in sampled_users(sources, histories, reasons, ["popularity", "gru"])}
    anna = users["anna"]
    assert anna.events == 4
    assert anna.history == [
        Past(day="1970-01-21", title="Ale", event_type="purchase", times=3),
        Past(day="1970-01-06", title="Cheese", event_type="view", times=1),
    ]
    assert anna.bought == [
        Bought(title="Rye <b>bread</b>", repeat=False, rank=3),
        Bought(title="Ale", repeat=True, rank=1),
    ]
    assert list(anna.lists) == ["fused", "popularity", "gru"]
    assert anna.lists["fused"] == [
        Listed(
            rank=1,
            item_id="ale",
            title="Ale",
            score=10.0,
            bought=True,
            repeat=True,
            reason="you buy this about every 10 days",
        ),
        Listed(rank=2, item_id="dates", title="dates", score=9.0, bought=False, repeat=False),
        Listed(rank=3, item_id="bread", title="Rye <b>bread</b>", score=8.0, bought=True, repeat=False),
    ]
    assert [row.item_id for row in anna.lists["popularity"]] == ["cheese"]
    assert anna.lists["gru"] == []
    assert [row.reason for row in users["bert"].lists["fused"]] == [""]


@pytest.mark.parametrize(("mode", "items"), [("allow", ["ale", "dates", "bread"]), ("drop", ["dates"])])
def test_lists_are_those_of_the_mode(sources: Sources, mode: str, items: list[str]) -> None:
    chosen = replace(sources, mode=mode)
    users = sampled_users(chosen, sampled_histories(chosen, 50), {}, [])
    [anna] = [user for user in users if user.user_id == "anna"]
    assert [row.item_id for row in anna.lists["fused"]] == items


def test_nobody_to_draw_is_nobody_shown(sources: Sources) -> None:
    nobody = replace(sources, targets=("search",))
    assert sampled_users(nobody, sampled_histories(nobody, 50), {}, []) == []
