"""Files that rules name are part of what a stage depends on; their ids are spelled as the events' are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from recsys_spark.config import Config
from recsys_spark.config.cleaning import ItemIds
from recsys_spark.errors import UserError
from recsys_spark.pipeline.list_rules import _listed, _spelled, and_rule_files, policy_name

SOURCE = {
    "format": "csv",
    "path": "x.csv",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}


def test_a_stage_follows_the_content_of_the_files_that_rules_name(tmp_path: Path) -> None:
    stock = tmp_path / "stock.txt"
    config = Config.model_validate({"source": SOURCE, "rules": {"out_of_stock_file": str(stock)}})
    follows = and_rule_files(lambda config, tracker: "champion 3")
    stock.write_text("a\n")
    before = follows(config, cast(Any, None))
    assert before == follows(config, cast(Any, None))
    stock.write_text("a\nb\n")
    after = follows(config, cast(Any, None))
    assert (before[0], before != after) == ("champion 3", True)
    assert and_rule_files(lambda config, tracker: None)(Config.model_validate({"source": SOURCE}), cast(Any, None)) == [
        None,
        [],
    ]


def test_ids_stand_one_a_line_and_blank_lines_are_none(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("a\n\n  b c \n")
    assert _listed("out_of_stock_file", str(path)) == ["a", "b c"]
    assert _listed("out_of_stock_file", None) == []
    with pytest.raises(UserError, match=r"rules.blocked_items_file: .*none.txt is missing"):
        _listed("blocked_items_file", str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    ("case", "blanks", "spelled"), [("keep", "keep", "a B"), ("upper", "remove", "AB"), ("lower", "keep", "a b")]
)
def test_ids_of_rules_are_spelled_as_the_events_are(case: str, blanks: str, spelled: str) -> None:
    assert _spelled("a B", ItemIds.model_validate({"case": case, "blanks": blanks})) == spelled


def test_the_policys_name_tells_what_its_chances_depend_on() -> None:
    rules = {"exploration": {"share": 0.25, "candidates": 9, "first_rank": 2}, "new_items": {"days": 7}}
    config = Config.model_validate({"source": SOURCE, "rules": rules})
    assert policy_name(config.rules) == "uniform_new share=0.25 candidates=9 first_rank=2 days=7"
