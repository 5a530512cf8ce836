"""Kinds of measures of scores: see `monitoring/scores.py`, which measures them."""

from __future__ import annotations

from recsys_spark.monitoring.kinds.kind import Kind

KINDS: tuple[Kind, ...] = (
    Kind(
        group="scores",
        name="psi",
        title="Scores of the lists",
        sentence="population stability index {value} against {detail}, over {rows} scores",
        look="see which model made them and what its run says of weights and normalisers; go back where it is worse",
        bad="high",
        warn=0.5,
        alert=1.5,
        least_rows=500,
    ),
    Kind(
        group="scores",
        name="ks",
        title="Scores of the lists",
        sentence="distributions are {value} apart at most, against {detail}, over {rows} scores",
        look="see which model made them and what its run says of weights and normalisers; go back where it is worse",
        bad="high",
        warn=0.35,
        alert=0.6,
        least_rows=500,
    ),
    Kind(
        group="scores",
        name="not_finite",
        title="Scores that are no numbers",
        sentence="{value} of {rows} scores are null or not finite",
        look="see the model's run: training may have diverged",
        bad="high",
        warn=None,
        alert=0.0,
    ),
    Kind(
        group="scores",
        name="spread",
        title="Spread of the scores",
        sentence="{value} of the spread of {detail} (between the 5th and the 95th of 100 scores: {reference})",
        look="see whether the model still tells items apart: one score for all is a model that learned nothing",
        bad="both",
        warn=3.0,
        alert=10.0,
        least_rows=500,
        form="times",
    ),
)
