"""Measures against limits."""

from datetime import date

import pytest

from recsys_spark.monitoring.finding import Measure
from recsys_spark.monitoring.judging import judge
from recsys_spark.monitoring.kinds import KINDS, Kind, Limit

DAY = date(2024, 3, 1)


def kind(**changes):
    settings = {
        "group": "events",
        "name": "thing",
        "title": "Things",
        "sentence": "{value} against {reference} of {rows}: {detail}",
        "look": "look there",
        "bad": "high",
        "warn": 0.1,
        "alert": 0.2,
    }
    return Kind(**{**settings, **changes})


def judged(value, limits=None, rows=None, subject="", detail="", reference=None, **changes):
    own = kind(**changes)
    measure = Measure(
        day=DAY,
        group="events",
        name="thing",
        subject=subject,
        value=value,
        rows=rows,
        reference=reference,
        detail=detail,
    )
    (finding,) = judge([measure], limits or {}, {own.key: own})
    return finding


@pytest.mark.parametrize(
    ("bad", "warn", "alert", "value", "status"),
    [
        ("high", 0.1, 0.2, 0.1, "ok"),
        ("high", 0.1, 0.2, 0.11, "warn"),
        ("high", 0.1, 0.2, 0.21, "alert"),
        ("high", None, 0.0, 0.0, "ok"),
        ("high", None, 0.0, 1.0, "alert"),
        ("high", None, None, 1e9, "ok"),
        ("low", 0.3, 0.1, 0.3, "ok"),
        ("low", 0.3, 0.1, 0.2, "warn"),
        ("low", 0.3, 0.1, 0.0, "alert"),
        ("both", 2.0, 4.0, 0.5, "ok"),
        ("both", 2.0, 4.0, 3.0, "warn"),
        ("both", 2.0, 4.0, 0.2, "alert"),
        ("both", 2.0, 4.0, 0.0, "alert"),
        ("both", 2.0, 4.0, float("inf"), "alert"),
    ],
)
def test_what_is_beyond_a_limit_is_bad(bad, warn, alert, value, status):
    assert judged(value, bad=bad, warn=warn, alert=alert).status == status


def test_limits_of_the_configuration_go_before_the_kinds():
    assert judged(0.5, limits={"events.thing": Limit(None, 0.6)}).status == "ok"


def test_few_rows_are_not_judged_and_the_sentence_says_so():
    finding = judged(9.0, rows=3, least_rows=10)
    assert (finding.status, "not judged on 3 rows, fewer than 10" in finding.sentence) == ("ok", True)
    assert judged(9.0, rows=10, least_rows=10).status == "alert"


def test_what_was_not_measured_is_ok_and_says_why():
    finding = judged(None, detail="no day before it")
    assert (finding.status, finding.sentence) == ("ok", "Things: not measured: no day before it")


def test_an_alert_says_what_how_much_against_what_and_where_to_look():
    finding = judged(0.5, rows=2000, subject="price", reference=0.25, detail="cents", form="share")
    assert finding.sentence == "Things (price): 50 % against 25 % of 2,000: cents; most is 20 %: look there"


def test_a_sentence_is_one_line_whatever_stands_in_the_data():
    finding = judged(0.5, rows=1, subject="a\nb {value} %s", detail="x\r\ny")
    assert "\n" not in finding.sentence
    assert "a b {value} %s" in finding.sentence


def test_the_worst_come_first_and_equals_keep_their_order():
    own = kind()
    values = {"a": 0.0, "b": 0.15, "c": 0.9, "d": 0.3}
    measures = [
        Measure(day=DAY, group="events", name="thing", subject=name, value=value) for name, value in values.items()
    ]
    assert [found.measure.subject for found in judge(measures, {}, {own.key: own})] == ["c", "d", "b", "a"]


def test_every_kind_has_a_sentence_that_can_be_told_and_limits_in_order():
    for key, own in KINDS.items():
        measure = Measure(day=DAY, group=own.group, name=own.name, value=0.5, reference=0.25, rows=10**9, detail="it")
        (finding,) = judge([measure], {})
        assert key == measure.key
        assert finding.sentence.startswith(own.title)
        bounds = [bound for bound in (own.warn, own.alert) if bound is not None]
        assert bounds == sorted(bounds, reverse=own.bad == "low")
        assert own.bad != "both" or all(bound > 1 for bound in bounds)
