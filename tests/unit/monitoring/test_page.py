"""The page says at once what is wrong and what changed, shows a month, and loads nothing."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from recsys_spark.monitoring.finding import Finding
from recsys_spark.monitoring.kinds import Limit
from recsys_spark.monitoring.ledger import Action
from recsys_spark.monitoring.page.changes import better, moved, worse
from recsys_spark.monitoring.page.content import Content
from recsys_spark.monitoring.page.page import monitoring_page
from recsys_spark.monitoring.page.sparkline import line, strip
from tests.page import ELSEWHERE, Page
from tests.unit.monitoring.findings import DAY, KINDS, earlier, finding


def content(*findings: Finding, **changes: Any) -> Content:
    given = {"day": DAY, "days": 30, "about": {"workspace": "shop"}, "limits": {}, "kinds": KINDS}
    return Content(findings=findings, **{**given, **changes})


def history(key: str, values: list[float | None], subject: str = "") -> list[Finding]:
    """Values of the days up to the monitored one, all well."""
    return [finding("ok", key, subject, value, earlier(back)) for back, value in enumerate(reversed(values))]


def test_what_is_wrong_comes_first_and_the_worst_before_the_rest() -> None:
    page = monitoring_page(
        content(
            finding("warn", "events.mix", sentence="fewer views"), finding("ok"), finding("alert", sentence="cents")
        )
    )
    text = Page(page).text
    assert (
        text.index("1 alert, 1 warning") < text.index("cents") < text.index("fewer views") < text.index("The last 30")
    )
    assert 'class="verdict stop"' in page


def test_a_quiet_day_says_so() -> None:
    page = monitoring_page(content(finding("ok"), finding("ok", day=earlier(1))))
    assert 'class="verdict ok"' in page
    text = Page(page).text
    assert "all is well" in text
    assert "No verdict changed since 2024-03-23, and nothing moved much." in text


def test_news_are_what_got_worse_or_better_since_the_monitored_day_before() -> None:
    two_days_ago = earlier(2)
    told = content(
        *(finding("ok", day=two_days_ago), finding("alert")),
        *(finding("alert", "events.mix", day=two_days_ago), finding("ok", "events.mix")),
        *(finding("alert", "lists.same", day=two_days_ago), finding("alert", "lists.same")),
    )
    assert [one.measure.key for one in worse(told)] == ["events.price"]
    assert [one.measure.key for _, one in better(told)] == ["events.mix"]
    text = Page(monitoring_page(told)).text
    assert f"new since {two_days_ago}" in text
    assert "Kinds of events, which was ● alert, is ok" in text


def test_a_value_far_from_its_own_past_is_told_though_it_is_well() -> None:
    calm = history("lists.same", [0.10, 0.11, 0.12, 0.10, 0.11, 0.12, 0.11, 0.29])
    usual = history("events.mix", [0.10, 0.11, 0.12, 0.10, 0.11, 0.12, 0.11, 0.12])
    short = history("bias.gap", [0.1, 0.1, 0.9])
    (one,) = moved(content(*calm, *usual, *short))
    assert (one.series.kind.key, one.value, one.usual) == ("lists.same", 0.29, 0.11)
    assert one.times == pytest.approx(18)  # half of the days before are within 0.01 of 0.11
    assert "One list: 29 %, usually 11 %" in Page(monitoring_page(content(*calm))).text
    assert moved(content(*history("bias.gap", [0.5] * 8))) == []
    (constant,) = moved(content(*history("bias.gap", [*[0.5] * 8, 0.6])))
    assert constant.times == math.inf


def test_what_holds_up_publication_is_shown_with_the_way_on() -> None:
    held = Action("held", DAY, "events.price", "", "prices in cents")
    text = Page(monitoring_page(content(finding("alert"), held=(held,)))).text
    assert "the alert events.price of 2024-03-24 (prices in cents)" in text
    assert "jobs/monitor.py --acknowledge NAME --comment TEXT" in text


def test_many_subjects_of_a_kind_are_folded_and_the_bad_ones_never() -> None:
    well = [finding("ok", "bias.gap", f"brand {number}") for number in range(20)]
    page = Page(monitoring_page(content(*well, finding("warn", "bias.gap", "the bad one"))))
    assert "15 further measures of bias, all well" in page.text
    assert page.text.index("the bad one") < page.text.index("further measures")


def test_a_kind_is_shown_with_the_limits_it_is_judged_by() -> None:
    assert "1.5 times, 3 times" in Page(monitoring_page(content(finding("ok")))).text
    changed = content(finding("ok"), limits={"events.price": Limit(None, 7.0)})
    assert "none, 7 times" in Page(monitoring_page(changed)).text
    assert "never" in Page(monitoring_page(content(finding("ok", "bias.gap")))).text


def test_days_out_of_sight_and_measures_of_no_known_kind_are_left_out() -> None:
    old = finding("alert", day=earlier(30), sentence="long ago")
    gone = finding("alert", "events.gone", sentence="no such kind any more")
    told = content(old, gone, finding("ok"))
    assert [len(series.findings) for series in told.series] == [1]
    assert told.before is None


def test_a_day_without_measures_has_a_page_too() -> None:
    assert "nothing was measured" in Page(monitoring_page(content())).text
    unmeasured = finding("ok", value=None, sentence="not measured: no lists")
    assert (
        "not measured" in Page(monitoring_page(content(unmeasured, finding("ok", "events.mix", value=math.inf)))).text
    )


def test_titles_from_the_data_are_text_and_nothing_comes_from_elsewhere() -> None:
    evil = '<script>alert(1)</script><img src=http://x onerror=y>" onload="y" src=\'//x\' href="http://x'
    page = monitoring_page(
        content(
            *history("bias.gap", [0.1] * 9, evil),
            finding("alert", subject=evil, sentence=evil),
            about={"workspace": evil},
            held=(Action("held", DAY, "events.price", evil, evil),),
        )
    )
    read = Page(page)
    assert {tag for tag, _ in read.tags} & {"script", "link", "iframe", "img"} == set()
    named = [(name, value or "") for _, attributes in read.tags for name, value in attributes.items()]
    assert [name for name, _ in named if name.startswith("on") or name in ("src", "srcset")] == []
    places = [value for name, value in named if name in ("href", "xlink:href")]
    assert places
    assert [place for place in places if not place.startswith("#")] == []
    assert ELSEWHERE.search(monitoring_page(content(*history("bias.gap", [0.1] * 9), finding("alert")))) is None


def test_a_line_goes_through_its_points_and_breaks_where_a_day_is_missing() -> None:
    points = [(earlier(back), float(value), "ok") for back, value in ((9, 0), (8, 10), (0, 5))]
    svg = line(points, earlier(9), 10, (), "three days")  # type: ignore[arg-type]
    (run,) = re.findall(r'<polyline points="([^"]+)"', svg)
    # 150 x 26 with an edge of 3: nine steps of 16, from the bottom (23) to the top (3).
    assert run == "3.0,23.0 19.0,3.0"
    assert re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', svg) == [("147.0", "13.0")]
    assert 'aria-label="three days"' in svg


def test_what_hardly_moves_is_drawn_flat() -> None:
    svg = line([(earlier(1), 1.000, "ok"), (DAY, 1.001, "ok")], earlier(1), 2, (), "")  # type: ignore[arg-type]
    heights = [float(point.split(",")[1]) for point in re.findall(r'points="([^"]+)"', svg)[0].split()]
    assert abs(heights[0] - heights[1]) < 1
    assert 'cy="13.0"' in line([(DAY, 0.0, "ok")], DAY, 1, (), "")  # type: ignore[list-item]


def test_of_a_kind_with_many_subjects_the_worst_are_shown() -> None:
    values = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.2, "e": 0.3, "f": 0.4, "g": 0.8}
    page = monitoring_page(content(*(finding("ok", "bias.gap", name, value) for name, value in values.items())))
    order = re.findall(r"Gap \((\w)\)<br>", page.partition('id="bias"')[2].partition("further measures")[0])
    assert order == ["b", "g", "c", "f", "e", "d"]


def test_a_limit_is_drawn_where_it_is_in_sight_and_bad_days_have_a_dot() -> None:
    points = [(earlier(1), 1.0, "alert"), (DAY, 2.0, "ok")]
    near = line(points, earlier(1), 2, (None, 2.5), "")  # type: ignore[arg-type]
    far = line(points, earlier(1), 2, (None, 500.0), "")  # type: ignore[arg-type]
    assert near.count('class="limit"') == 1
    assert far.count('class="limit"') == 0
    assert near.count("<circle") == 2
    assert line([], DAY, 2, (), "") == ""


def test_the_strip_tells_each_day_by_colour_and_by_word() -> None:
    svg = strip([(earlier(1), None), (DAY, "alert")], "events")
    assert re.findall(r"<title>([^<]+)</title>", svg) == ["2024-03-23: not monitored", "2024-03-24: alert"]
    assert len(set(re.findall(r'fill="([^"]+)"', svg))) == 2


def test_a_long_verdict_is_cut_so_that_what_changed_stays_in_sight() -> None:
    many = [finding("alert", "bias.gap", f"brand {number}", sentence=f"sentence {number}") for number in range(10)]
    verdict = monitoring_page(content(*many)).partition("<main>")[0]
    assert "10 alerts" in verdict
    assert "and 2 more, see below" in verdict
    assert "sentence 7" in verdict
    assert "sentence 8" not in verdict
