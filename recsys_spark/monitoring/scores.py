"""Measures of scores: those of the published lists against the lists of the evaluated model, and of the day before.

The evaluated lists are those that the test metrics were computed from (`evaluation_recommendations`, model `fused`), of
the evaluation that the lists were made from, as long as the lists are that model's and not an earlier champion's. They
are of the test users, made by the test fit and before business rules, so they are like the published ones, not the
same. Lists of the day before are compared where one model made both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.monitoring.distances import Counts, kolmogorov_smirnov, psi
from recsys_spark.monitoring.finding import Group, Measure
from recsys_spark.tables.pointer import Commit

GROUP: Group = "scores"
FUSED = "fused"
NOW, EVALUATED, BEFORE = "now", "evaluated", "before"
WORDS = {EVALUATED: "the evaluated model's", BEFORE: "the lists before, of the same model"}
PARTS = 20
"""Parts of about equal counts into which the reference's quantiles divide scores."""
LOW, HIGH = 1, 19
"""Quantiles, of PARTS, between which the spread is taken."""


@dataclass(frozen=True)
class Side:
    """What the scores of some lists are like."""

    rows: int
    bad: int
    """Of them null, NaN or infinite."""
    edges: Sequence[float]
    """Quantiles of the others, PARTS + 1 from least to most, to a thousandth in rank; empty without any."""


def measure_scores(context: MonitorContext) -> list[Measure]:
    """All measures of scores, in two passes over the lists that are compared."""
    lists = context.lists
    if lists is None:
        return context.without(GROUP, "there are no lists")
    frames = {NOW: context.read("recommendations", lists).select("score"), **references(context, lists)}
    scores = together(frames)
    sides = described(scores)
    now = sides.get(NOW)
    if now is None:
        return context.without(GROUP, "the lists are empty")
    comparable = bool(now.edges)  # without one finite score there is nothing to compare, and `not_finite` says so
    others = {name: side for name, side in sides.items() if comparable and name != NOW and side.edges}
    edges = {name: sorted(set(side.edges[1:-1])) for name, side in others.items()}
    counts = counted(scores, edges) if edges else {}
    found = [context.measure(GROUP, "not_finite", float(now.bad), now.rows)]
    for name, side in others.items():
        found += compared(context, name, now, side, counts[NOW][name], counts[name][name])
    return found


def references(context: MonitorContext, lists: Commit) -> dict[str, DataFrame]:
    """Scores that the lists' can be compared with: EVALUATED and BEFORE, where they are there."""
    found = {}
    evaluated = context.made_from(lists, "evaluate_models")
    made_by_newest = lists.facts.get("served_model_version") == lists.facts.get("model_version")
    if evaluated is not None and made_by_newest:
        same = (F.col("model") == FUSED) & (F.col("repeats") == lists.facts["repeats"])
        rows = context.read("evaluation_recommendations", evaluated)
        found[EVALUATED] = rows.where(same & (F.col("rank") <= int(lists.facts["k"]))).select("score")
    live = context.live
    before = None if live is None else live.commit
    if before is not None and before.version != lists.version:
        same_model = before.facts.get("served_model_version") == lists.facts.get("served_model_version")
        if same_model:
            found[BEFORE] = context.read("recommendations", before).select("score")
    return found


def compared(
    context: MonitorContext, name: str, now: Side, usual: Side, counts: Counts, reference: Counts
) -> list[Measure]:
    """PSI, KS and spread of the lists' scores against one reference, over the parts of its quantiles."""
    rows = int(counts.sum())
    told = WORDS[name]
    found = [
        context.measure(GROUP, "psi", psi(counts, reference), rows, subject=name, detail=told),
        context.measure(GROUP, "ks", kolmogorov_smirnov(counts, reference), rows, subject=name, detail=told),
    ]
    width = usual.edges[HIGH] - usual.edges[LOW]
    if width > 0:
        ratio = (now.edges[HIGH] - now.edges[LOW]) / width if now.edges else None
        found.append(context.measure(GROUP, "spread", ratio, rows, subject=name, reference=width, detail=told))
    return found


def together(frames: Mapping[str, DataFrame]) -> DataFrame:
    """(side, score as double) of all frames."""
    sides = [
        frame.select(F.lit(name).alias("side"), F.col("score").cast("double").alias("score"))
        for name, frame in frames.items()
    ]
    return reduce(DataFrame.unionByName, sides)


def described(scores: DataFrame) -> dict[str, Side]:
    """What each side that has a row is like."""
    shares = [place / PARTS for place in range(PARTS + 1)]
    finite = F.when(_finite(), F.col("score"))
    rows = scores.groupBy("side").agg(
        F.count("*").alias("rows"),
        F.count(finite).alias("finite"),
        F.percentile_approx(finite, shares, 1000).alias("edges"),
    )
    return {
        row["side"]: Side(row["rows"], row["rows"] - row["finite"], [float(edge) for edge in row["edges"] or ()])
        for row in rows.collect()  # three sides at most
    }


def counted(scores: DataFrame, edges: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Counts]]:
    """By side and then by reference: how many finite scores are in each part, [len(edges of the reference) + 1].

    The first part goes up to the first edge, the next to the next one, and the last is what is beyond.
    """
    score = F.col("score")
    parts = {
        (name, place): F.sum(((score > low) & (score <= high)).cast("bigint")).alias(f"{name}_{place}")
        for name, own in edges.items()
        for place, (low, high) in enumerate(pairwise([-math.inf, *own, math.inf]))
    }
    rows = scores.where(_finite()).groupBy("side").agg(*parts.values()).collect()
    return {row["side"]: {name: _counts(row, name, len(own) + 1) for name, own in edges.items()} for row in rows}


def _counts(row: Row, name: str, parts: int) -> Counts:
    return np.array([row[f"{name}_{place}"] for place in range(parts)], dtype=np.float64)


def _finite() -> Column:
    score = F.col("score")
    return score.isNotNull() & ~F.isnan(score) & (F.abs(score) != math.inf)
