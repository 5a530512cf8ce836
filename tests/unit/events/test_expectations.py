from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from recsys_spark.config import Config
from recsys_spark.config.quality import Quality
from recsys_spark.errors import UserError
from recsys_spark.events.report.drift import drift, type_mix_distance
from recsys_spark.events.report.expectations import check_reasons, violations
from recsys_spark.events.report.report import RunFacts, build_report

START = date(2024, 1, 1)
PLAIN: dict[str, Any] = {"view": 80, "purchase": 20, "bad_price": 0, "duplicates": 0, "no_price": 10, "late": 0}
"""A day of a hundred clean events."""


def report_of(*days: Mapping[str, int], run_days: list[int] | None = None, **facts: Any) -> dict[str, Any]:
    """A report of days that differ from PLAIN; by default the run computed all of them."""
    counts: list[tuple[date | None, str, float]] = [(None, "users", 7)]
    rejects: list[tuple[date | None, str | None, int]] = []
    rows = 0
    for place, changes in enumerate(days):
        day, found = START + timedelta(place), {**PLAIN, **changes}
        clean = found["view"] + found["purchase"]
        counts += [(day, "clean", clean), (day, "type:view", found["view"]), (day, "type:purchase", found["purchase"])]
        counts += [(day, "null:price", found["no_price"]), (day, "exact_duplicates", found["duplicates"])]
        counts += [(day, "delay:0", clean - found["late"]), (day, "delay:2", found["late"])]
        rejects += [(day, None, found["bad_price"]), (day, "bad_price", found["bad_price"])]
        rows += clean + found["bad_price"] + found["duplicates"]
    computed = range(len(days)) if run_days is None else run_days
    run = {"rows_in": rows, "items": 9, "first": 0, "newest": 1, "run_days": [START + timedelta(n) for n in computed]}
    return build_report(counts, rejects, RunFacts(**{**run, **facts}))


def judged(report: dict[str, Any], previous: dict[str, Any] | None = None, **limits: Any) -> list[str]:
    quality = Quality(**limits)
    return violations({**report, "drift": drift(report, previous, quality)}, quality)


BAD_SECOND_DAY = ({}, {"bad_price": 100, "duplicates": 50, "no_price": 40, "late": 25}, {})


def test_nothing_is_expected_unless_it_is_asked_for() -> None:
    assert judged(report_of(*BAD_SECOND_DAY), report_of({"view": 9_000})) == []


@pytest.mark.parametrize(
    ("limits", "whole", "day"),
    [
        # 100 of 450 rows of the run, 100 of 250 of the day
        ({"max_reject_share": 0.2}, "max_reject_share is 0.2, but 0.222222 of the rows", "but 0.4 of the rows"),
        (
            {"max_reject_share_by_reason": {"bad_price": 0.2}},
            "max_reject_share_by_reason.bad_price is 0.2, but 0.222222 of the rows of the run were rejected for bad",
            "but 0.4 of the rows",
        ),
        ({"max_duplicate_share": 0.1}, "max_duplicate_share is 0.1, but 0.111111 of the rows", "but 0.2 of the rows"),
        # 60 of 300 clean events, 40 of 100
        ({"max_null_share": {"price": 0.1}}, "max_null_share.price is 0.1, but 0.2 of the clean events", "but 0.4 of"),
        ({"max_late_share": 0.05}, "max_late_share is 0.05, but 0.083333 of the clean events", "but 0.25 of the clean"),
    ],
)
def test_a_share_above_its_limit_is_said_of_the_run_and_of_its_worst_day(
    limits: dict[str, Any], whole: str, day: str
) -> None:
    report = report_of(*BAD_SECOND_DAY)
    of_run, of_day = judged(report, **limits)
    assert f"quality.{whole}" in of_run
    assert "of the run" in of_run
    assert day in of_day
    assert "of 2024-01-02" in of_day
    assert all("\n" not in sentence and "; " in sentence for sentence in (of_run, of_day))


def test_a_share_at_its_limit_is_met() -> None:
    report = report_of({"bad_price": 100, "duplicates": 50})
    assert judged(report, max_reject_share=0.4, max_duplicate_share=0.2, max_null_share={"price": 0.1}) == []


def test_a_limit_of_zero_lets_not_one_row_in_ten_million_pass() -> None:
    report = report_of({"view": 10_000_000, "bad_price": 1})
    assert len(judged(report, max_reject_share=0)) == 2


def test_only_days_that_the_run_computed_are_judged() -> None:
    def computed(*days: int) -> list[str]:
        return judged(report_of(*BAD_SECOND_DAY, run_days=list(days)), max_reject_share=0.3)

    assert computed(0, 2) == computed() == []
    assert len(computed(1)) == 1


def test_a_day_of_few_rows_counts_in_the_run_alone() -> None:
    report = report_of({"view": 8, "purchase": 2, "bad_price": 5}, {"view": 800})
    assert len(judged(report, max_reject_share=0.3)) == 1
    assert judged(report, max_reject_share=0.3, judge_days_from=16) == []


def test_further_bad_days_are_counted_beside_the_worst() -> None:
    report = report_of({"bad_price": 60}, {"bad_price": 80}, {"bad_price": 70}, *[{}] * 9)
    (sentence,) = judged(report, max_reject_share=0.2)
    assert "2024-01-02 (and 2 more days)" in sentence


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"min_events": 201}, "min_events is 201, but the run has 200 clean events"),
        ({"min_users": 8}, "min_users is 8, but the run has 7 users"),
        ({"min_items": 1_000_000}, "min_items is 1,000,000, but the run has 9 items"),
        ({"min_events_per_day": 101}, "min_events_per_day is 101, but 2024-01-01 .and 1 more day. has 100 clean"),
        ({"max_broken_files": 1}, "max_broken_files is 1, but a.gz .cut off. and 1 more cannot be read"),
    ],
)
def test_too_little_and_too_much_broken_is_one_sentence(limits: dict[str, Any], message: str) -> None:
    report = report_of({}, {}, broken_files=[("a.gz", "cut off"), ("b.gz", "cut off")])
    (sentence,) = judged(report, **limits)
    assert re.search(message, sentence)
    met = {key: limit + 1 if key.startswith("max") else limit // 200_000 or limit - 1 for key, limit in limits.items()}
    assert judged(report, **met) == []


def test_a_computed_day_without_any_row_is_too_small() -> None:
    report = report_of({}, run_days=[0, 5])
    (sentence,) = judged(report, min_events_per_day=50)
    assert "2024-01-06 has 0 clean events" in sentence


def test_a_first_run_has_nothing_to_drift_from() -> None:
    assert drift(report_of({}), None, Quality(schema_drift="stop")) == []


def test_equal_reports_show_no_drift() -> None:
    report = report_of({}, {}, schemas={"source": {"a": "string"}})
    assert drift(report, report, Quality(schema_drift="stop", max_type_mix_change=0, min_share_of_previous=1)) == []


@pytest.mark.parametrize(("mode", "severity"), [("warn", "warn"), ("stop", "stop"), ("allow", None)])
def test_columns_that_came_went_or_changed_are_found(mode: Any, severity: str | None) -> None:
    before = report_of(
        {}, schemas={"source": {"kept": "string", "gone": "int", "price": "double"}, "old": {"x": "int"}}
    )
    now = report_of({}, schemas={"source": {"kept": "string", "new": "int", "price": "string"}})
    found = drift(now, before, Quality(schema_drift=mode))
    changes = [(f["what"], f["before"], f["now"]) for f in found if f["severity"] == severity]
    assert changes == (
        []
        if severity is None
        else [
            ("column 'gone' of source source was removed", "int", None),
            ("column 'new' of source source was added", None, "int"),
            ("column 'price' of source source has another type", "double", "string"),
        ]
    )
    assert len(judged(now, before, schema_drift=mode)) == (3 if mode == "stop" else 0)


def test_the_type_mix_is_compared_by_total_variation() -> None:
    assert type_mix_distance({"view": 80, "purchase": 20}, {"view": 4, "purchase": 1}) == 0.0
    assert type_mix_distance({"view": 80, "purchase": 20}, {"view": 50, "purchase": 50}) == 0.3
    assert type_mix_distance({"view": 1}, {"purchase": 5}) == 1.0
    assert type_mix_distance({}, {"purchase": 5}) == 0.0


def test_a_changed_type_mix_warns_or_stops() -> None:
    before, now = report_of({}, {}), report_of({}, {"view": 20, "purchase": 80})
    findings = drift(now, before, Quality())  # the run: 100 of 200 are views instead of 160
    assert [(f["severity"], f["what"].split(" are ")[0]) for f in findings] == [
        ("warn", "the event types of the run"),
        ("warn", "the event types of 2024-01-02"),
    ]
    assert judged(now, before, max_type_mix_change=0.6) == []
    (sentence,) = judged(now, before, max_type_mix_change=0.5)
    assert "2024-01-02 are distributed otherwise (distance 0.6)" in sentence


def test_a_new_event_type_is_told() -> None:
    before, now = report_of({"purchase": 0, "no_price": 0}), report_of({"purchase": 1, "no_price": 0})
    now["unknown_event_types"] = {"gift": 3}
    assert [f["what"] for f in drift(now, before, Quality())] == [
        "event type 'purchase' is new",
        "event type 'gift' is new",
    ]


def test_days_are_compared_with_the_mean_day_before() -> None:
    before = report_of({"view": 60}, {"view": 100})  # 80 and 120: mean 100
    now = report_of({}, {"view": 0, "no_price": 0}, {"view": 230}, {"view": 10, "no_price": 0})
    quality = Quality(min_share_of_previous=0.25, max_share_of_previous=3)
    volumes = [f for f in drift(now, before, quality) if "times the events" in f["what"]]
    assert [(f["severity"], f["key"], f["before"], f["now"], f["what"][:10]) for f in volumes] == [
        ("stop", "min_share_of_previous", 100.0, 20.0, "2024-01-02"),
        ("warn", "max_share_of_previous", 100.0, 250.0, "2024-01-03"),
        ("warn", "min_share_of_previous", 100.0, 30.0, "2024-01-04"),
    ]
    (sentence,) = judged(now, before, min_share_of_previous=0.25)
    assert "min_share_of_previous is 0.25, but 2024-01-02 has 0.2 times the events of a mean day before" in sentence
    assert len(judged(now, before, max_share_of_previous=2.5)) == 0
    assert len(judged(now, before, max_share_of_previous=2.4)) == 1


def test_where_all_is_one_run_its_mean_day_is_compared() -> None:
    before, now = report_of({}, {}, run_days=[]), report_of({"view": 0, "no_price": 0}, {}, run_days=[])
    assert judged(now, before, min_share_of_previous=0.6) == []
    (sentence,) = judged(now, before, min_share_of_previous=0.61)
    assert "the run's mean day has 0.6 times" in sentence


def test_a_missing_day_is_a_day_without_events() -> None:
    now = report_of({}, run_days=[0, 9])
    (sentence,) = judged(now, report_of({}), min_share_of_previous=0.5)
    assert "2024-01-10 has 0 times" in sentence


def test_a_changed_share_of_nulls_warns_or_stops() -> None:
    before, now = report_of({}), report_of({"no_price": 40})
    assert [(f["what"], f["before"], f["now"]) for f in drift(now, before, Quality())] == [
        ("price is null more often", 0.1, 0.4)
    ]
    assert judged(now, before, max_null_share_change=0.3) == []
    assert len(judged(now, before, max_null_share_change=0.29)) == 1


def test_a_report_of_an_older_version_is_compared_as_far_as_it_goes() -> None:
    now = report_of({}, schemas={"source": {"a": "string"}})
    old = {name: now[name] for name in ("rows_in", "clean", "event_types", "null_shares")}
    assert drift(now, old, Quality(schema_drift="stop", min_share_of_previous=1)) == []


def test_reasons_that_no_rule_gives_are_refused() -> None:
    quality = Quality(max_reject_share_by_reason={"bad_prise": 0.1})
    with pytest.raises(UserError, match=r"no rule rejects for 'bad_prise'; reasons are bad_price, robot"):
        check_reasons(quality, ["robot", "bad_price"])
    check_reasons(quality, ["bad_prise"])


@pytest.mark.parametrize(
    "given",
    [
        {"max_null_share": {"prise": 0.1}},
        {"max_null_share": {"price": 1.1}},
        {"max_reject_share": -0.1},
        {"max_broken_files": -1},
        {"schema_drift": "ignore"},
        {"min_events": 0},
        {"max_nulls": 1},
    ],
)
def test_expectations_that_cannot_be_meant_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Quality(**given)


def test_expectations_stand_in_the_configuration() -> None:
    source = {"format": "csv", "path": "x", "event_type": "view"}
    columns = {"user_id": "u", "item_id": "i", "event_time": "t"}
    config = Config.model_validate(
        {"source": {**source, "columns": columns}, "quality": {"max_null_share": {"price": 0.1}}}
    )
    assert config.quality.max_null_share == {"price": 0.1}
