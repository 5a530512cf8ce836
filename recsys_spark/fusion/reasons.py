"""A recommendation's reason in words."""

from __future__ import annotations

from recsys_spark.recommenders.vocabulary import Vocabulary

A_WEEK = 10.0
"""Half-life in days up to which what counts is about the last week."""
WITHOUT_ITEM = frozenset({"popular", "trending", "popular_among"})
"""Kinds of evidence that name no item of the history; they speak where they have a number."""


def reason_text(kind: str, item: int, value: float | None, vocabulary: Vocabulary, detail: str = "") -> str:
    """One phrase for one recommendation.

    `kind` is Evidence.kind, or `general` where no component has evidence; `item` is the code of the evidence item or
    -1; `value` is the reason's number or None; `detail` is what else Evidence has to say, or empty.
    """
    if kind == "repurchase":
        return _interval(value)
    if kind == "bought_with":
        return f"bought with {vocabulary.title(item)}"
    if kind == "similar":
        return f"goes with {vocabulary.title(item)}, which you chose lately"
    if kind == "because_of":
        return f"because you chose {vocabulary.title(item)}"
    if kind == "similar_text":
        return f"like {vocabulary.title(item)}" + (f" ({detail})" if detail else "")
    if kind in WITHOUT_ITEM:
        when = "lately" if value is not None and value > A_WEEK else "this week"
        if kind == "trending":
            return f"on the rise {when}" + (f" ({detail})" if detail else "")
        among = detail if kind == "popular_among" else f"({detail})"
        return f"popular {when}" + (f" {among}" if detail else "")
    return "chosen by shoppers like you"


def _interval(days: float | None) -> str:
    if days is None:
        return "you bought this before"
    rounded = max(1, round(days))
    return f"you buy this about every {rounded} days" if rounded > 1 else "you buy this about every day"
