"""Which function fits which recommender."""

from __future__ import annotations

from collections.abc import Callable

from recsys_spark.fitting import als, content_knn, ease, item_knn, popularity, repurchase, segment_popularity, trending
from recsys_spark.fitting.inputs import Facts, FitInputs


def _neural(inputs: FitInputs) -> Facts:
    """Launch the training of a neural recommender; imported late, since the other fits need none of its machinery."""
    from recsys_spark.fitting import neural

    return neural.fit(inputs)


FITS: dict[str, Callable[[FitInputs], Facts]] = {
    "popularity": popularity.fit,
    "trending": trending.fit,
    "segment_popularity": segment_popularity.fit,
    "repurchase": repurchase.fit,
    "item_knn": item_knn.fit,
    "content_knn": content_knn.fit,
    "ease": ease.fit,
    "als": als.fit,
    **dict.fromkeys(("mfn", "gru", "lstm", "sasrec", "kim_cnn", "bert", "two_tower"), _neural),
}
"""Recommender name to its fit: `FITS[inputs.name](inputs)` writes the bundle `inputs.output`."""
