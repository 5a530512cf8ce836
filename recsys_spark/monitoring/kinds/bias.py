"""Kinds of measures of bias: see `monitoring/bias.py`, which measures them."""

from __future__ import annotations

from recsys_spark.monitoring.kinds.kind import Kind

_PART = "see the lists' items of that part, boosts, caps and pins, and the newest model"
_USERS = "see what changed for these users: their events, their lists, and the newest model"

KINDS: tuple[Kind, ...] = (
    Kind(
        group="bias",
        name="exposure_gap",
        title="Exposure that goes elsewhere than purchases",
        sentence="{value} of the places on lists would have to move for each part to have its share of the purchases; "
        "most apart: {detail}",
        look=_PART,
        bad="high",
        form="share",
    ),
    Kind(
        group="bias",
        name="exposure_gap_ratio",
        title="Exposure that goes elsewhere than purchases, against usual",
        sentence="the gap is {value} what is usual ({reference}); most apart: {detail}",
        look=_PART,
        bad="high",
        warn=1.5,
        alert=2.5,
        least_rows=100,
        form="times",
        reference_form="share",
    ),
    Kind(
        group="bias",
        name="over_exposure",
        title="Exposure for each purchase",
        sentence="its share of the places on lists is {value} its share of what users bought ({detail})",
        look=_PART,
        bad="both",
        form="times",
    ),
    Kind(
        group="bias",
        name="segment_ndcg",
        title="NDCG by activity",
        sentence="{value} ({detail}) over {rows} users",
        look=_USERS,
        bad="low",
    ),
    Kind(
        group="bias",
        name="segment_ratio",
        title="NDCG by activity, against usual",
        sentence="NDCG ({detail}) is {value} what is usual for them ({reference}), over {rows} users",
        look=_USERS,
        bad="low",
        warn=0.6,
        alert=0.4,
        least_rows=100,
        form="times",
    ),
)
