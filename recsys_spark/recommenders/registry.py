"""Which class reads which kind of bundle."""

from __future__ import annotations

from pathlib import Path

from recsys_spark.errors import UserError
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.bundle import CONFIG, TENSORS, VOCABULARY, read_bundle
from recsys_spark.recommenders.content_items import ContentItems
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.ease import DenseItems
from recsys_spark.recommenders.factors import Factors
from recsys_spark.recommenders.history_rules import HistoryRules
from recsys_spark.recommenders.item_item import NeighbourItems
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.recommenders.segments import SegmentCounts

KINDS: dict[str, type[Recommender]] = {
    Counts.kind: Counts,
    SegmentCounts.kind: SegmentCounts,
    HistoryRules.kind: HistoryRules,
    NeighbourItems.kind: NeighbourItems,
    ContentItems.kind: ContentItems,
    DenseItems.kind: DenseItems,
    Factors.kind: Factors,
    NeuralRecommender.kind: NeuralRecommender,
}
"""The `kind` in a bundle's configuration to its class."""
UNFIT = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, OSError)
"""What a class raises where files with right hashes are not what it wrote."""


def load_recommender(path: Path) -> Recommender:
    """The recommender of the bundle at `path`, whose hashes are checked.

    Raises UserError where the bundle is damaged or of a kind that this version does not know.
    """
    bundle = read_bundle(path)
    kind = bundle.config.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"bundle {path}: kind {kind!r} is unknown to this version; known are {sorted(KINDS)}")
    try:
        return KINDS[kind].load(bundle)
    except UNFIT as error:
        said = f"its {CONFIG}, {TENSORS} and {VOCABULARY} do not fit together ({type(error).__name__})"
        raise UserError(f"bundle {path}: {said}; fit the model again") from error
