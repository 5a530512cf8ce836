"""Which function fits which recommender."""

from __future__ import annotations

from collections.abc import Callable

from recsys_spark.fitting import ease, item_knn, popularity, repurchase
from recsys_spark.fitting.inputs import Facts, FitInputs


def _neural(inputs: FitInputs) -> Facts:
    """Launch the training of a neural recommender; imported late, since the other fits need none of its machinery."""
    from recsys_spark.fitting import neural

    return neural.fit(inputs)


FITS: dict[str, Callable[[FitInputs], Facts]] = {
    "popularity": popularity.fit,
    "repurchase": repurchase.fit,
    "item_knn": item_knn.fit,
    "ease": ease.fit,
    "mfn": _neural,
    "gru": _neural,
}
"""Recommender name to its fit: `FITS[inputs.name](inputs)` writes the bundle `inputs.output`."""
