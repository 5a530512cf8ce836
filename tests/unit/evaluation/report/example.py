"""A small evaluation whose numbers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recsys_spark.evaluation.report.content import (
    Bought,
    Comparison,
    Content,
    Curve,
    Histogram,
    Listed,
    Measured,
    Past,
    SampledUser,
    Segment,
)

VALUES = {"popularity": 0.125, "gru": 0.25, "fused": 0.375}
WIDTH = 0.03125
"""Half of every interval of NDCG."""


def measured(model: str, mode: str = "allow", metric: str = "ndcg", value: float | None = None) -> Measured:
    value = VALUES[model] if value is None else value
    low, high = (None, None) if metric == "coverage" else (value - WIDTH, value + WIDTH)
    return Measured(model=model, repeats=mode, metric=metric, k=10, value=value, low=low, high=high, users=1234)


def compared(against: str, difference: float, model: str = "fused", mode: str = "allow") -> Comparison:
    return Comparison(
        model=model,
        against=against,
        repeats=mode,
        metric="ndcg",
        k=10,
        difference=difference,
        low=difference - WIDTH,
        high=difference + WIDTH,
        p_value=0.004,
        users=1234,
    )


def listed(item: str, rank: int = 1, **told: Any) -> Listed:
    facts = {"bought": False, "repeat": False, **told}
    return Listed(rank=rank, item_id=item, title=f"title of {item}", score=1.5 / rank, **facts)


def sampled(user_id: str = "anna") -> SampledUser:
    return SampledUser(
        user_id=user_id,
        events=7,
        history=[Past(day="2024-01-31", title="rye bread", event_type="purchase", times=3)],
        bought=[Bought(title="cheddar", repeat=True, rank=2), Bought(title="dates", repeat=False, rank=None)],
        lists={
            "fused": [listed("a", reason="bought with rye bread"), listed("b", 2, bought=True, repeat=True)],
            "popularity": [listed("c")],
            "gru": [],
        },
    )


def content(**changes: Any) -> Content:
    """Two recommenders and the fusion, both modes of repeats: under `drop` everything is half as good."""
    metrics = [
        measured(model, mode, metric, value / (1 if mode == "allow" else 2) * (1 if metric == "ndcg" else 0.5))
        for mode in ("allow", "drop")
        for metric in ("ndcg", "recall", "coverage")
        for model, value in VALUES.items()
    ]
    segments = [
        Segment(
            model=model,
            repeats="allow",
            metric="ndcg",
            k=10,
            value=value,
            low=value - WIDTH,
            high=value + WIDTH,
            users=users,
            dimension="user_activity",
            segment=segment,
        )
        for segment, users in (("new", 11), ("heavy", 22))
        for model, value in VALUES.items()
    ]
    whole = Content(
        about={"run": "r1", "date": "2024-02-14"},
        versions={"build_datasets": "3", "train_models.gru": "5"},
        fusions={
            "allow": {"method": "weighted", "components": [{"name": "gru", "weight": 0.625}], "note": "of valid"},
            "drop": {"method": "average", "components": []},
        },
        models=["popularity", "gru"],
        targets=["purchase"],
        confidence=0.9,
        k=10,
        list_mode="allow",
        metrics=metrics,
        segments=segments,
        divided={"user_activity": ("new", "light", "heavy")},
        comparisons=[
            compared("popularity", 0.25),
            compared("gru", 0.125),
            compared("popularity", 0.0625, mode="drop"),
            compared("gru", 0.015625, mode="drop"),
            compared("popularity", 0.125, model="gru"),
        ],
        curves=[Curve(model="gru", loss=[(1, 2.0), (2, 1.0)], ndcg=[(10, 0.1), (20, 0.2)], best_epoch=2)],
        scores=[
            Histogram(
                model="gru",
                repeats="allow",
                edges=np.array([0.0, 1.0, 2.0]),
                counts=np.array([6, 2]),
                firsts=np.array([1, 1]),
                beyond=2,
                rows=10,
                lists=2,
            )
        ],
        users=[sampled("anna"), sampled("bert")],
        counts={"target_users": 1300, "no_history": 66},
    )
    return replace(whole, **changes)
