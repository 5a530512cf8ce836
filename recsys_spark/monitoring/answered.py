"""The lists that were live on a day against what their users then bought: one row a buyer, and two sums over them.

Relevant are the distinct items of a user's target events on the day, while the lists were in force, that were known
before the lists were made (`evaluation.cold`), and under `drop` new to the user: the house's definition, with the day
as the window (`evaluation.relevance`). An event at midnight to the second has no time of day, and counts whenever on
the day the lists came into force. Means are over users with a history and relevant items; one without a list or a hit
counts 0.

The exposure of an item is the sum of 1 / log2(1 + rank) over the lists of these users that hold it (Singh and Joachims
2018), its relevance the number of them for whom it is relevant. The gap of a division of the items into parts is half
the sum over parts of |share of exposure - share of relevance|, the total variation distance: the share of exposure that
would have to move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from recsys_spark.evaluation.measures import ACTIVITIES
from recsys_spark.evaluation.metrics import EXACT, metrics_at
from recsys_spark.evaluation.relevance import exploded_events
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.monitoring.context import MonitorContext, Window
from recsys_spark.monitoring.live import Live
from recsys_spark.monitoring.strata import DIMENSIONS, SMALL, UNKNOWN, divided_items, newcomers
from recsys_spark.tables.pointer import Commit

FIT = "publish"
UNDIVIDED, HISTORYLESS = "all", "none"
"""Segments: of users whose activity is not divided, and of those without a history."""


@dataclass(frozen=True)
class Accuracy:
    """Means over the users of a segment."""

    users: int
    ndcg: float
    hit_rate: float


@dataclass(frozen=True)
class Part:
    """Items that belong together, by their shares."""

    name: str
    exposure: float
    relevance: float


@dataclass(frozen=True)
class Spread:
    """A dimension: how far exposure and relevance are apart."""

    gap: float
    """0 to 1."""
    worst: Part
    """The part with the largest difference."""
    parts: tuple[Part, ...]
    """All parts, by name, of a dimension in SMALL; else none."""


@dataclass(frozen=True)
class Answered:
    """All that is told of a day's live lists."""

    live: Live
    k: int
    """Places that accuracy looks at."""
    buyers: int
    """Users with a target event while the lists were in force."""
    served: int
    """Of these, with a list."""
    overall: Accuracy
    by_activity: Mapping[str, Accuracy]
    """Segments of users with a history to their means; empty where activity is not divided."""
    spreads: Mapping[str, Spread]
    """Dimension to its spread, over those users of `overall` who have a list."""


def answered(context: MonitorContext) -> Answered | str:
    """What came of the lists that were live on the day; or, in a phrase, what is missing. Found once for a context."""
    return context.once("answered", lambda: _answered(context))


def _answered(context: MonitorContext) -> Answered | str:
    live = context.live
    if live is None:
        return "no lists that were made before the day were in force on it, or they are gone"
    sources = _sources(context, live)
    if sources is None:
        return f"what version {live.commit.version} of the lists was made from is gone"
    k = min(*context.config.evaluation.k, context.config.fusion.k, int(live.commit.facts.get("k", 1 << 30)))
    buyers = _buyers(context, sources, k).persist()
    try:
        rows = _summed(buyers)
        if not rows:
            return "nobody bought anything while the lists were in force"
        spreads = _spreads(buyers, rows)
    finally:
        buyers.unpersist()
    return Answered(
        live=live,
        k=k,
        buyers=sum(row["buyers"] for row in rows),
        served=sum(row["served"] for row in rows),
        overall=_mean(rows),
        by_activity={row["activity"]: _mean([row]) for row in rows if row["activity"] in ACTIVITIES},
        spreads=spreads,
    )


@dataclass(frozen=True)
class _Sources:
    """The live lists and what they were made from."""

    live: Live
    features: Commit
    ids: Commit
    histories: Commit | None
    """None where the lists may repeat what was bought."""
    activity: tuple[float, float] | None
    """Events from which a user is light, and heavy; None where nobody said."""


def _sources(context: MonitorContext, live: Live) -> _Sources | None:
    def made_from(stage: str) -> Commit | None:
        return context.made_from(live.commit, stage)

    features, ids, histories = made_from("fit_features"), made_from("build_features"), made_from("build_datasets")
    if features is None or ids is None or histories is None:
        return None
    evaluated = made_from("evaluate_models")
    edges = evaluated.facts.get("measured", {}).get("user_activity") if evaluated else None
    activity = context.config.evaluation.user_activity or edges
    dropped = live.commit.facts.get("repeats", context.config.fusion.repeats) == "drop"
    return _Sources(live, features, ids, histories if dropped else None, tuple(activity) if activity else None)


def in_force(context: MonitorContext, live: Live) -> DataFrame:
    """Clean events of the day while the lists were in force."""
    moment = F.col("event_time")
    inside = (moment >= _moment(live.start)) & (moment < _moment(live.end))
    day = context.events(Window(context.day, context.day + timedelta(days=1)))
    return day.where(inside | (moment == _moment(context.start)))


def _moment(moment: datetime) -> Column:
    # As text: a datetime would be taken in the time zone of this process.
    return F.lit(moment.isoformat(sep=" ")).cast("timestamp")


def _buyers(context: MonitorContext, sources: _Sources, k: int) -> DataFrame:
    """One row a buyer of the day: what was bought and what was listed as `entries`, and the user's metrics."""
    evaluation = context.config.evaluation
    is_target = F.col("event_type").isin(list(evaluation.target_events))
    bought = in_force(context, sources.live).where(is_target).select("user_id", "item_id").distinct()
    bought = bought.withColumn("fresh", F.lit(True)).withColumn("bought", F.lit(True))
    if sources.histories is not None:
        before = _bought_before(context, sources.ids, sources.histories, bought.select("user_id").distinct())
        bought = bought.join(before, on=["user_id", "item_id"], how="left").withColumn("fresh", F.col("again").isNull())
    listed = context.read("recommendations", sources.live.commit).select("user_id", "item_id", "rank")
    listed = listed.join(bought.select("user_id").distinct(), on="user_id", how="left_semi")
    items = divided_items(
        context.read("items", sources.ids).select("item_id", "category", "brand"),
        _of_fit(context, "item_features", sources.features).select("item_id", "events", "age_days"),
        evaluation.item_age_days,
        evaluation.popularity_shares,
    )
    parts = [F.coalesce(name, other).alias(name) for name, other in newcomers(evaluation.item_age_days).items()]
    known = F.lit(True) if evaluation.cold == "miss" else F.coalesce("known", F.lit(False))
    relevant = F.coalesce(F.col("bought") & F.col("fresh") & known, F.lit(False)).alias("relevant")
    pairs = bought.join(listed, on=["user_id", "item_id"], how="full").join(items, on="item_id", how="left")
    entries = F.array_sort(F.collect_list(F.struct("rank", relevant, *parts))).alias("entries")
    users = _of_fit(context, "user_features", sources.features).where(F.col("events") > 0)
    segments = users.select("user_id", _activity(sources.activity).alias("activity"))
    by_user = pairs.groupBy("user_id").agg(entries).join(segments, on="user_id", how="left")
    return _measured(by_user.withColumn("activity", F.coalesce("activity", F.lit(HISTORYLESS))), k)


def _of_fit(context: MonitorContext, table: str, commit: Commit) -> DataFrame:
    return context.read(table, commit).where(F.col("fit") == FIT)


def _bought_before(context: MonitorContext, ids: Commit, histories: Commit, users: DataFrame) -> DataFrame:
    """user_id, item_id and `again`: what the users had a target event with before the lists were made."""
    codes = [code for code, name in enumerate(EVENT_TYPES) if name in context.config.evaluation.target_events]
    own = context.read("histories", histories).join(users, on="user_id", how="left_semi")
    pairs = exploded_events(own).where(F.col("event_type").isin(codes)).select("user_id", "item_index").distinct()
    items = context.read("items", ids).select("item_index", "item_id")
    return pairs.join(items, on="item_index", how="inner").select("user_id", "item_id", F.lit(True).alias("again"))


def _activity(edges: tuple[float, float] | None) -> Column:
    if edges is None:
        return F.lit(UNDIVIDED)
    new, light, heavy = ACTIVITIES
    return F.when(F.col("events") >= edges[1], heavy).when(F.col("events") >= edges[0], light).otherwise(new)


def _measured(by_user: DataFrame, k: int) -> DataFrame:
    """`entries` and `activity` with `relevant`, `listed`, `measured`, `exposure`, `ndcg` and `hit_rate`."""
    hits = F.filter("entries", lambda entry: entry["relevant"] & entry["rank"].isNotNull())
    exposure = F.aggregate("entries", F.lit(0.0), lambda total, entry: total + _discount(entry["rank"]))
    wanted = F.size(F.filter("entries", lambda entry: entry["relevant"]))
    told = by_user.select(
        "activity",
        "entries",
        F.transform(hits, lambda entry: entry["rank"]).alias("ranks"),  # entries are in the order of ranks
        F.greatest(wanted, F.lit(1)).alias("relevant"),  # of those without any nothing is used, and no ideal is 0
        ((F.col("activity") != HISTORYLESS) & (wanted > 0)).alias("measured"),
        F.exists("entries", lambda entry: entry["rank"].isNotNull()).alias("listed"),
        exposure.alias("exposure"),
    )
    metrics = metrics_at(k)
    return told.withColumns({name: F.when(F.col("measured"), metrics[name]) for name in ("ndcg", "hit_rate")})


def _discount(rank: Column) -> Column:
    return F.coalesce(1.0 / F.log2(rank + 1.0), F.lit(0.0))


def _summed(buyers: DataFrame) -> list[Row]:
    """Sums over the buyers of each segment of activity: at most four rows."""
    compared = F.col("measured") & F.col("listed")
    return (
        buyers.groupBy("activity")
        .agg(
            F.count(F.lit(1)).alias("buyers"),
            F.count(F.when(F.col("listed"), 1)).alias("served"),
            F.count(F.when(F.col("measured"), 1)).alias("users"),
            *[F.coalesce(F.sum(F.col(name).cast(EXACT)), F.lit(0)).alias(name) for name in ("ndcg", "hit_rate")],
            *[
                F.coalesce(F.sum(F.when(compared, F.col(name)).cast(EXACT)), F.lit(0)).alias(name)
                for name in ("exposure", "relevant")
            ],
        )
        .orderBy("activity")
        .collect()
    )


def _mean(rows: Sequence[Row]) -> Accuracy:
    users = sum(row["users"] for row in rows)
    ndcg, hit_rate = (float(sum(row[name] for row in rows)) / max(1, users) for name in ("ndcg", "hit_rate"))
    return Accuracy(users, ndcg, hit_rate)


def _spreads(buyers: DataFrame, rows: Sequence[Row]) -> dict[str, Spread]:
    """Every dimension but one in which nothing is known of any item; a row a dimension comes to the driver."""
    exposure, relevance = (float(sum(row[name] for row in rows)) for name in ("exposure", "relevant"))
    if not exposure or not relevance:
        return {}
    entry = buyers.where(F.col("measured") & F.col("listed")).select(F.explode("entries").alias("entry"))
    named = [F.struct(F.lit(name).alias("dimension"), F.col(f"entry.{name}").alias("name")) for name in DIMENSIONS]
    each = entry.select("entry.rank", "entry.relevant", F.explode(F.array(*named)).alias("part"))
    parts = each.groupBy("part").agg(
        (F.sum(_discount(F.col("rank")).cast(EXACT)).cast("double") / exposure).alias("exposure"),
        (F.count(F.when(F.col("relevant"), 1)) / relevance).alias("relevance"),
    )
    gap = F.abs(F.col("exposure") - F.col("relevance"))
    told = parts.select(gap.alias("gap"), "part.dimension", "part.name", "exposure", "relevance")
    shares = F.struct("name", "exposure", "relevance")
    found = told.groupBy("dimension").agg(
        F.sum(F.col("gap").cast(EXACT)).cast("double").alias("gaps"),
        F.max(F.struct("gap", "name", "exposure", "relevance")).alias("worst"),
        F.max(F.col("name") != UNKNOWN).alias("known"),
        F.array_sort(F.collect_list(F.when(F.col("dimension").isin(*SMALL), shares))).alias("parts"),
    )
    return {
        row["dimension"]: Spread(row["gaps"] / 2, _part(row["worst"]), tuple(_part(part) for part in row["parts"]))
        for row in found.collect()
        if row["known"]
    }


def _part(row: Row) -> Part:
    return Part(row["name"], row["exposure"], row["relevance"])
