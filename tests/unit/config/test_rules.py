"""Mistakes in business rules are one line that names the key; and the example in conf/ loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from recsys_spark.config import Config, load_config
from recsys_spark.config.loading import one_line
from recsys_spark.config.rules import Boost, Pin, Rules

ROOT = Path(__file__).resolve().parents[3]
SOURCE = {
    "format": "csv",
    "path": "x.csv",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ({"exploration": {"share": 1.2}}, "rules.exploration.share: Input should be less than 1"),
        ({"new_items": {"min_share": 1.2}}, "rules.new_items.min_share: Input should be less than or equal to 1"),
        (
            {"boosts": {"b": {"items": ["a"], "factor": 2, "from": "2024-05-02", "to": "2024-05-01"}}},
            "rules.boosts.b: to (2024-05-01) is before from (2024-05-02)",
        ),
        ({"boosts": {"b": {"factor": 2}}}, "rules.boosts.b: names no categories, brands or items; give at least one"),
        (
            {"boosts": {"b": {"items": ["a"]}}},
            "rules.boosts.b: changes nothing; give a factor other than 1 or an addend other than 0",
        ),
        (
            {"pins": {"p": {"item": "a", "position": 21}}},
            "configuration: rules.pins.p.position (21) is beyond the list; fusion.k is 20",
        ),
        ({"pins": {"p": {"item": "a", "position": 0}}}, "rules.pins.p.position: Input should be greater than 0"),
        (
            {"pins": {"p": {"item": "a", "position": 1}, "q": {"item": "b", "position": 1}}},
            "rules: pins p and q hold position 1 at the same time; move one",
        ),
        (
            {"pins": {"p": {"item": "a", "position": 1, "segment": "kids"}}},
            "rules: pins.p.segment: kids is not among segments []",
        ),
        ({"min_price": 5, "max_price": 4}, "rules: max_price (4) is less than min_price (5)"),
        ({"caps": {"c": {"at_most": 0}}}, "rules.caps.c.at_most: Input should be greater than 0"),
        (
            {"segments": {"s": {}}},
            "rules.segments.s: is everybody; give attribute and values, min_events or max_events",
        ),
        (
            {"segments": {"s": {"attribute": "age", "values": ["1"]}}},
            "configuration: rules.segments.s.attribute: age is not among demographics.columns []",
        ),
        (
            {"diversity": {"weight": 0.2, "vectors": "als"}},
            "configuration: rules.diversity.vectors: als has no item vectors here; give one of ['text', 'mfn', 'gru']",
        ),
        (
            {"exploration": {"share": 0.2, "first_rank": 30}},
            "configuration: rules.exploration.first_rank (30) is beyond the list; fusion.k is 20",
        ),
        ({"boost": {}}, "rules.boost: unknown key; see docs/configuration.md for the known ones"),
    ],
)
def test_a_mistake_is_one_line(rules: dict[str, object], line: str) -> None:
    with pytest.raises(ValidationError) as error:
        Config.model_validate({"source": SOURCE, "rules": rules})
    assert one_line(error.value) == line


def test_rules_are_off_until_one_is_given() -> None:
    assert not Rules().on
    assert not Rules.model_validate({"new_items": {"days": 7}, "segments": {"new": {"max_events": 3}}}).on
    assert Rules.model_validate({"segments": {"new": {"max_events": 3, "never_categories": ["a"]}}}).on
    for given in ({"min_price": 0}, {"blocked_items": ["a"]}, {"interval": {"share": 0.5}}, {"out_of_stock_file": "f"}):
        assert Rules.model_validate(given).on


def test_pins_of_different_days_or_segments_may_share_a_position() -> None:
    days = [Pin(item="a", position=1, first_day="2024-01-01", last_day="2024-01-31")]
    days.append(Pin(item="b", position=1, first_day="2024-02-01"))
    assert Rules(pins=dict(zip("pq", days, strict=True))).on


def test_dates_may_be_written_from_and_to_and_survive_a_dump() -> None:
    boost = Boost.model_validate({"items": ["a"], "factor": 2, "from": "2024-01-01", "to": "2024-01-02"})
    assert Boost.model_validate(boost.model_dump()) == boost


def test_the_example_configuration_loads_and_turns_every_rule_on(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(
        yaml.safe_dump(
            {
                "source": SOURCE,
                "demographics": {"format": "csv", "path": "d.csv", "columns": {"user_id": "u", "age": "age"}},
            }
        )
    )
    config = load_config([str(base), str(ROOT / "conf" / "rules.yaml")])
    rules = config.rules
    given = (rules.caps, rules.boosts, rules.pins, rules.segments, rules.files, rules.blocked_items, rules.max_price)
    shares = (rules.interval.share, rules.new_items.min_share, rules.diversity.weight, rules.exploration.share)
    assert all((rules.on, *given, *shares))
