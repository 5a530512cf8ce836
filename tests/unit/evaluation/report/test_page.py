"""The page: what it shows, that it needs nothing else, and that no text of the data is obeyed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from recsys_spark.evaluation.report.content import Content
from recsys_spark.evaluation.report.page import report_page
from recsys_spark.evaluation.report.pictures import Picture, draw
from tests.page import ELSEWHERE, Page
from tests.unit.evaluation.report.example import compared, content, listed, measured, sampled

EVIL = "<script>alert('x')</script>&\"$\\bad{$"


@cache
def pictures() -> dict[str, Picture]:
    return draw(content())


def html_of(shown: Content) -> str:
    return report_page(shown, {})


def page_of(**changes: Any) -> Page:
    return Page(html_of(content(**changes)))


def test_a_page_shows_every_model_user_and_known_number() -> None:
    text = page_of().text
    wanted = ["gru", "popularity", "fused", "anna", "bert", "r1", "2024-02-14", "1,234 users", "90% intervals"]
    wanted += ["0.3750", "0.3438 to 0.4062", "0.1875", "+0.2500", "0.2188 to 0.2812", "0.004", "0.6250"]
    wanted += ["11 users", "22 users", "1,300", "66", "train_models.gru", "of valid"]
    assert [word for word in wanted if word not in text] == []


def test_nothing_of_a_page_comes_from_elsewhere_and_its_links_lead_somewhere() -> None:
    html = report_page(content(), pictures())
    assert not ELSEWHERE.search(html)
    page = Page(html)
    anchors = {attributes["id"] for attributes in page.of("section")}
    assert {str(link["href"]) for link in page.of("a")} == {f"#{anchor}" for anchor in anchors}
    assert all(str(image["src"]).startswith("data:image/png;base64,") and image["alt"] for image in page.of("img"))
    assert {"viewport"} <= {str(meta.get("name")) for meta in page.of("meta")}


def test_pictures_are_there_and_say_what_they_show() -> None:
    page = Page(report_page(content(), pictures()))
    assert set(pictures()) == {
        "ndcg", "recall", "differences", "user_activity_allow", "learning", "coverage", "scores_allow",
    }  # fmt: skip
    assert len(page.of("img")) == len(pictures())
    says = " ".join(str(image["alt"]) for image in page.of("img"))
    assert "repeats allowed: fused 0.3750, gru 0.2500, popularity 0.1250" in says
    assert "minus gru +0.0156 not told apart" in says
    assert "gru: valid NDCG@10 0.1000 at first, 0.2000 at best" in says


def test_tables_say_what_their_columns_and_rows_are() -> None:
    page = page_of()
    assert len(page.of("table")) == len(page.of("thead")) == len(page.of("tbody"))
    assert {cell.get("scope") for cell in page.of("th")} == {"col", "row"}


def test_text_of_the_data_is_shown_and_never_obeyed() -> None:
    user = sampled(EVIL)
    lists = {
        "fused": [replace(listed("a", reason=EVIL), title=EVIL, bought=True)],
        EVIL: [replace(listed("b"), title=EVIL)],
    }
    user = replace(
        user,
        lists=lists,
        history=[replace(user.history[0], title=EVIL)],
        bought=[replace(user.bought[0], title=EVIL)],
    )
    plain = content()
    shown = replace(
        plain,
        about={EVIL: EVIL},
        versions={EVIL: EVIL},
        fusions={"allow": {"method": EVIL, "components": [{EVIL: EVIL}], EVIL: EVIL}},
        models=[*plain.models, EVIL],
        targets=[EVIL],
        metrics=[*plain.metrics, replace(plain.metrics[0], model=EVIL)],
        segments=[replace(row, segment=EVIL, model=EVIL) for row in plain.segments[:1]],
        divided={"user_activity": (EVIL,)},
        comparisons=[*plain.comparisons, compared(EVIL, 1.0)],
        curves=[replace(plain.curves[0], model=EVIL)],
        scores=[replace(plain.scores[0], model=EVIL)],
        users=[user],
    )
    html = report_page(shown, draw(shown))
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not ELSEWHERE.search(html)
    assert page.text.count(EVIL) >= 18
    assert EVIL in str(next(image["alt"] for image in page.of("img")))


@pytest.mark.parametrize(
    ("difference", "kind", "sentence"),
    [
        (0.125, "ok", "better than every recommender by NDCG@10; the closest is gru (+0.1250, 0.0938 to 0.1562)"),
        (0.015625, "warn", "not told apart from gru by NDCG@10; against gru it is +0.0156, -0.0156 to 0.0469"),
        (-0.125, "stop", "worse than gru by NDCG@10; against gru it is -0.1250"),
    ],
)
def test_the_verdict_stands_on_top(difference: float, kind: str, sentence: str) -> None:
    allowed = [row for row in content().metrics if row.repeats == "allow"]
    page = page_of(metrics=allowed, comparisons=[compared("popularity", 0.25), compared("gru", difference)])
    assert f"verdict {kind}" in {attributes.get("class") for attributes in page.of("div")}
    assert sentence in page.text


def test_without_bootstrap_the_page_says_so_and_claims_nothing() -> None:
    bare = [replace(row, low=None, high=None) for row in content().metrics]
    page = page_of(metrics=bare, comparisons=[], segments=[])
    assert "0.3750, of the best recommender (gru) 0.2500. No intervals were measured" in page.text
    assert "better than" not in page.text
    assert "Nothing was compared." in page.text
    assert "Nothing was measured by segment." in page.text
    shown = content(metrics=bare, comparisons=[], segments=[])
    assert set(draw(replace(shown, scores=[], curves=[]))) == {"ndcg", "recall", "coverage"}


def test_one_mode_a_single_model_and_no_user_make_a_page() -> None:
    rows = [measured("fused", "drop")]
    fusions = {"drop": {"method": "single", "components": []}}
    shown = content(
        metrics=rows, fusions=fusions, comparisons=[], segments=[], curves=[], scores=[], users=[], list_mode="drop"
    )
    page = Page(report_page(shown, draw(shown)))
    assert "repeats dropped" in page.text
    assert "repeats allowed" not in page.text
    assert "No recommender told a learning curve." in page.text


def test_what_was_bought_is_marked_in_words_and_colour() -> None:
    page = page_of(users=[sampled("anna")])
    assert len(page.of("mark")) == 1
    assert "title of b [bought] [repeat]" in page.text
    assert "cheddar [repeat] [place 2 of the fused list]" in page.text
    assert "anna: 7 events before; bought in the test window: 2, of them in the fused list: 1" in page.text
    assert "bought with rye bread" in page.text
    assert "gru: no list" in page.text
    assert "popularity: 0 of 1 bought" in page.text


def test_long_titles_are_cut_and_long_shopping_lists_too() -> None:
    user = sampled()
    many = replace(user, bought=[replace(user.bought[0], title="x" * 500)] * 25)
    text = page_of(users=[many]).text
    assert "x" * 79 + "…" in text
    assert "x" * 80 not in text
    assert "and 5 more" in text


def test_every_way_to_fuse_is_told() -> None:
    gru, als = (
        {"name": name, "weight": weight, "normaliser": "zscore"} for name, weight in (("gru", 0.75), ("als", 0.5))
    )
    settings = {
        "method": "cascade",
        "components": [gru],
        "segments": {"light": 5, "heavy": 50, "components": {"new": [als], "heavy": [gru]}},
        "cascade": {"retrieve": ["popularity", "ease"], "candidates": 300},
        "stack": {"candidates": 1000, "trees": "trees.txt"},
    }
    text = page_of(fusions={"allow": settings}).text
    wanted = [
        "Repeats allowed: cascade",
        "Components for new users (fewer than 5 events)",
        "heavy users (50 events or more)",
    ]
    wanted += [
        "0.7500",
        "0.5000",
        "best 300 items, and as many unseen ones, of each of popularity, ease.",
        "best 1,000 items",
    ]
    assert [words for words in wanted if words not in text] == []
    assert "Further settings" not in text
