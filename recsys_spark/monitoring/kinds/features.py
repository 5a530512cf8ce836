"""Kinds of measures of features: see `monitoring/features.py`, which measures them."""

from __future__ import annotations

from recsys_spark.monitoring.kinds.kind import Kind

LOOK = "see what changed in the shop or its logs since the models learned; where it stays, train anew"

KINDS: tuple[Kind, ...] = (
    Kind(
        group="features",
        name="psi",
        title="Drift of a feature (PSI)",
        sentence="population stability index {value} against the training window over {rows} values",
        look=LOOK,
        bad="high",
        warn=0.25,
        alert=1.0,
        least_rows=200,
    ),
    Kind(
        group="features",
        name="ks",
        title="Drift of a feature (Kolmogorov-Smirnov)",
        sentence="distributions are {value} apart at most, against the training window, over {rows} values",
        look=LOOK,
        bad="high",
        warn=0.2,
        alert=0.4,
        least_rows=200,
    ),
    Kind(
        group="features",
        name="js",
        title="Drift of an item feature (Jensen-Shannon)",
        sentence="distance {value} from the training window over {rows} events; most moved: {detail}",
        look=LOOK,
        bad="high",
        warn=0.3,
        alert=0.5,
        least_rows=500,
    ),
    Kind(
        group="features",
        name="new_items_share",
        title="Items without history",
        sentence="{value} of {rows} events are with items that have none in the training window",
        look="train anew, so that models know these items",
        bad="high",
        warn=0.3,
        alert=0.6,
        least_rows=200,
        form="share",
    ),
)
