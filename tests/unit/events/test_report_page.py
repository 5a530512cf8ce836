from __future__ import annotations

import base64
import re
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from recsys_spark.config.quality import Quality
from recsys_spark.events.report.drift import drift
from recsys_spark.events.report.expectations import violations
from recsys_spark.events.report.page import report_page
from recsys_spark.events.report.plots import MAX_STEPS, steps
from recsys_spark.events.report.report import Oddities, RunFacts, build_report
from tests.page import Page

EVIL = "<script>alert('x')</script>&\"$\\bad{$"


def a_report(days: int = 31, gap: int = 1, **facts: Any) -> dict[str, Any]:
    """Days of ten views each, `gap` days apart, and one reject each."""
    counts: list[tuple[date | None, str, float]] = [(None, "users", 5), (None, "hour:8", 10 * days)]
    rejects: list[tuple[date | None, str | None, int]] = []
    for place in range(days):
        day = date(2024, 1, 1) + timedelta(place * gap)
        counts += [(day, "clean", 10), (day, "type:view", 10), (day, "null:price", 4), (day, "delay:0", 9)]
        counts += [(day, "delay:1", 1)]
        rejects += [(day, None, 1), (day, facts.get("reason", "bad_price"), 1)]
    facts.pop("reason", None)
    run = {"rows_in": 11 * days, "items": 3, "first": 0, "newest": 10**15}
    return build_report(counts, rejects, RunFacts(**{**run, **facts}))


def page_of(report: dict[str, Any], **about: str) -> Page:
    return Page(report_page(report, about))


def test_a_page_reconciles_and_shows_its_pictures() -> None:
    page = page_of(a_report(), run="r1", date="2024-01-31")
    assert "Accepted: no expectation was missed." in page.text
    assert "341 rows in = 310 clean + 0 duplicates (0 exact, 0 near) + 31 quarantined." in page.text
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == [
        "Events and rejects by day",
        "Why rows were rejected",
        "Event types by day",
        "Clean rows without a value by day",
        "Arrival delay",
        "Events by hour of the day (UTC)",
    ]
    for picture in pictures:
        start, data = str(picture["src"]).split(",")
        assert start == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_nothing_of_a_page_comes_from_elsewhere() -> None:
    html = report_page(a_report())
    assert not re.search(r"https?:|url\(|@import|<link|<script|<iframe", html)
    assert len(html) < 500_000


def test_text_of_the_data_is_shown_and_never_obeyed() -> None:
    report = a_report(
        reason=EVIL,
        broken_files=[(EVIL, EVIL)],
        schemas={EVIL: {EVIL: EVIL}},
        catalogue_conflicts=Oddities(1, [EVIL]),
        spelling_collisions=Oddities(1, [EVIL]),
    )
    report["unknown_event_types"] = {EVIL: 1}
    report["drift"] = [{"what": EVIL, "before": {EVIL: 0.5}, "now": [EVIL], "severity": "warn", "key": ""}]
    for broken in ([], [EVIL]):
        page = page_of({**report, "violations": broken}, **{EVIL: EVIL})
        assert "script" not in {tag for tag, _ in page.tags}
        assert page.text.count(EVIL) >= 12


def test_the_sentences_of_a_stopped_run_stand_on_top() -> None:
    report, quality = a_report(), Quality(max_reject_share=0.05)
    report["drift"] = drift(report, None, quality)
    report["violations"] = violations(report, quality)
    text = page_of(report).text
    assert "Stopped: nothing was published." in text
    assert text.index("quality.max_reject_share is 0.05") < text.index("rows in =")


def test_changes_are_told_where_nothing_stops() -> None:
    report = a_report(schemas={"source": {"price": "string"}})
    report["drift"] = drift(report, a_report(schemas={"source": {"price": "double"}}), Quality())
    text = page_of(report).text
    assert "Accepted. One change since the last published run" in text
    assert "column 'price' of source source has another type" in text


def test_a_run_without_rows_has_a_page() -> None:
    report = build_report([], [], RunFacts(rows_in=0, items=0, first=None, newest=None))
    page = page_of(report)
    assert "0 rows in = 0 clean" in page.text
    assert not [tag for tag, _ in page.tags if tag == "img"]


@pytest.mark.parametrize(
    ("days", "gap", "name", "count"),
    [
        (31, 1, "day", 31),
        (MAX_STEPS, 1, "day", 400),
        (MAX_STEPS + 1, 1, "week", 58),
        (2, 2799, "week", 400),
        (2, 2800, "2 weeks", 201),
        (3, 20_000, "15 weeks", 381),
    ],
)
def test_a_long_time_is_drawn_by_weeks(days: int, gap: int, name: str, count: int) -> None:
    over = steps(a_report(days, gap))
    assert over is not None
    assert (over.name, len(over.edges) - 1) == (name, count)
    assert over.sums(lambda day: day["clean"]).sum() == 10 * days


def test_days_without_rows_are_empty_steps() -> None:
    over = steps(a_report(2, 3))
    assert over is not None
    np.testing.assert_array_equal(over.sums(lambda day: day["clean"]), [10, 0, 0, 10])
