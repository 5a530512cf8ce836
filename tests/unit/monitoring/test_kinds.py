"""The registry of kinds, and the page that lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_spark.monitoring.finding import GROUPS
from recsys_spark.monitoring.kinds import KINDS, bias, check_kinds, events, features, lists, outcomes, scores
from recsys_spark.monitoring.kinds.__main__ import replaced

PAGE = Path(__file__).resolve().parents[3] / "docs" / "monitoring.md"


def test_the_page_lists_every_kind_with_its_limits() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert replaced(page) == page, "run python -m recsys_spark.monitoring.kinds --write docs/monitoring.md"


def test_no_kind_is_declared_twice_or_under_another_group() -> None:
    declared = {
        "events": events,
        "features": features,
        "scores": scores,
        "lists": lists,
        "outcomes": outcomes,
        "bias": bias,
    }
    assert tuple(declared) == GROUPS
    kinds = [kind for module in declared.values() for kind in module.KINDS]
    assert len(kinds) == len(KINDS)
    assert [kind.key for group, module in declared.items() for kind in module.KINDS if kind.group != group] == []


@pytest.mark.parametrize(
    ("name", "every", "known"),
    [
        ("scores.nonsense", False, [key for key in sorted(KINDS) if key.startswith("scores.")]),
        ("event.volume_ratio", False, ["events.volume_ratio"]),
        ("*", False, sorted(KINDS)),
        ("scores.nonsense", True, ["* (all of them)", *(key for key in sorted(KINDS) if key.startswith("scores."))]),
    ],
)
def test_a_name_of_no_kind_is_refused_with_those_that_are_near(name: str, every: bool, known: list[str]) -> None:
    with pytest.raises(ValueError, match="no such kind of measure; known are ") as told:
        check_kinds(["events.volume_ratio", name], every)
    said, _, near = str(told.value).partition("; known are ")
    assert said == f"{name}: no such kind of measure"
    assert set(known) <= set(near.split(", "))
    assert len(near.split(", ")) <= max(len(known), 3)  # those alike are three at most
    check_kinds(["events.volume_ratio", *(["*"] if every else [])], every)
