"""Measures of what came of the lists: what users bought of the list that they had, and what they did with new items.

The lists are those that were live on the day (`monitoring.live`), the definitions those of `monitoring.answered`.

Click-through of explored items: of the places that live lists filled by lot (`rules.exploration`), for users who came
that day, how many had their item met by the user that day, by any event. An item's propensity p is the chance with
which it stood there, so sum of (1 / p) x met over sum of 1 / p is what the new items among which was drawn would have
had, had each stood there equally often (self-normalised: Swaminathan and Joachims 2015).
"""

from __future__ import annotations

from pyspark.sql import functions as F

from recsys_spark.evaluation.metrics import EXACT
from recsys_spark.fusion.rules.explaining import NEW
from recsys_spark.monitoring.answered import Answered, answered, in_force
from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.monitoring.finding import Group, Measure
from recsys_spark.monitoring.usual import against_usual

GROUP: Group = "outcomes"
RATIOS = {
    "ndcg": "ndcg_ratio",
    "hit_rate": "hit_rate_ratio",
    "served_share": "served_ratio",
    "explored_click_through": "explored_ratio",
}


def measure_outcomes(context: MonitorContext) -> list[Measure]:
    """Accuracy of the live lists, the share of buyers who had one, and the click-through of explored items."""
    found = answered(context)
    if isinstance(found, str):
        return context.without(GROUP, found)
    return against_usual(context, [*_accuracy(context, found), *_explored(context)], RATIOS)


def _accuracy(context: MonitorContext, found: Answered) -> list[Measure]:
    told = f"at {found.k}, version {found.live.commit.version} of the lists"
    measures = [context.measure(GROUP, "served_share", found.served / found.buyers, found.buyers)]
    if found.overall.users:
        for name, value in (("ndcg", found.overall.ndcg), ("hit_rate", found.overall.hit_rate)):
            measures.append(context.measure(GROUP, name, value, found.overall.users, detail=told))
    return measures


def _explored(context: MonitorContext) -> list[Measure]:
    """The click-through of the places that were drawn, where the live lists have such places and users came."""
    live = context.live
    if live is None or "exposures" not in live.commit.tables:
        return []
    met = in_force(context, live).select("user_id", "item_id").distinct()
    drawn = context.read("recommendations", live.commit).where(F.col("reason").startswith(NEW))
    shown = (
        drawn.select("user_id", "rank")
        .join(met.select("user_id").distinct(), on="user_id", how="left_semi")
        .join(context.read("exposures", live.commit), on=["user_id", "rank"], how="inner")
        .join(met.withColumn("met", F.lit(True)), on=["user_id", "item_id"], how="left")
    )
    weight = (1 / F.col("propensity")).cast(EXACT)
    [row] = shown.agg(
        F.count(F.lit(1)).alias("places"),
        F.count("met").alias("met"),
        F.sum(weight).alias("weight"),
        F.sum(F.when(F.col("met"), weight)).alias("met_weight"),
    ).collect()
    if not row["places"]:
        return []
    value = float(row["met_weight"] or 0) / float(row["weight"])
    detail = f"{row['met']:,} of {row['places']:,} places"
    return [context.measure(GROUP, "explored_click_through", value, row["places"], detail=detail)]
