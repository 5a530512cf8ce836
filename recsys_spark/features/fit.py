"""Stage fit_features: what is learned of items and words on each fit's time, and features of all items and users."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.features import Features
from recsys_spark.datasets.split import FIT_FOLDS
from recsys_spark.events.sources import file_errors
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.features.apply import ITEM_TABLES, apply_users, write_items
from recsys_spark.features.fitted import FittedFeatures, Floats
from recsys_spark.features.item_features import Codes, described_items, event_prices, item_counts, sizes_and_edges
from recsys_spark.features.subwords import WordPiece
from recsys_spark.features.text import FIRST_TOKEN, Vocabulary, count_terms, stop_list, top_terms
from recsys_spark.features.user_features import read_demographics, with_attributes
from recsys_spark.features.word2vec import embed, history_pairs, read_pairs, token_pairs
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.location import spark_path


@dataclass(frozen=True)
class Occasion:
    """Fits that learn features, and what each may see."""

    histories: DataFrame
    """The table `histories`, with the folds of this occasion."""
    folds: Mapping[str, tuple[int, ...]]
    """Fit to the folds whose events it learns from."""
    cut_times: Mapping[str, int]
    """Fit to the end of these folds, in epoch seconds."""
    starts: tuple[str, str] | None
    """Start of the valid and of the test fold (ISO 8601), None where folds go by position."""
    as_of: datetime
    """Events at or after it are in no fold."""


@file_errors()
def run(context: StageContext) -> StageResult:
    """Write the directory features/<fit> of each fit, and the tables of items and users described by them.

    A fit learns from the text of the items that have events in its folds, and from these events, and nothing else.
    Facts: `versions` (of each fit's features), `cut_times`, `vocabulary_size` and `item_vectors`. The driver holds the
    capped vocabulary, codes and vectors of one fit at a time, and the pairs of which the vectors are made.
    """
    return _fitted(context, ("select", "test", "publish") if context.config.evaluation.refit else ("select", "publish"))


@file_errors()
def run_published(context: StageContext) -> StageResult:
    """The same of the `publish` fit alone, where nothing is trained or evaluated."""
    return _fitted(context, ("publish",))


def _fitted(context: StageContext, fits: tuple[str, ...]) -> StageResult:
    config, told = context.config, context.facts("build_datasets")
    assert context.as_of is not None, "fit_features reads events, so its date is known"
    occasion = Occasion(
        histories=context.read_table("histories"),
        folds={fit: FIT_FOLDS[fit] for fit in fits},
        cut_times={fit: int(told["cut_times"][fit]) for fit in fits},
        starts=(told["valid_start"], told["test_start"]) if told["valid_start"] else None,
        as_of=context.as_of,
    )
    facts = learn(context, occasion, {name: context.new_table_directory(name) for name in ITEM_TABLES})
    for name in ITEM_TABLES:
        context.finish_table(name)
    directories = [context.run_directory / "features" / fit for fit in fits]
    users = apply_users(directories, occasion.histories, context.run_directory / "item_features")
    demographics = read_demographics(context.spark, config.demographics)
    context.write_table("user_features", with_attributes(users, demographics))
    return StageResult(
        metrics={
            f"{kind}_{fit}": float(facts[kind][fit]) for kind in ("item_vectors", "vocabulary_size") for fit in fits
        },
        facts=facts,
    )


def learn(context: StageContext, occasion: Occasion, tables: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Write the directory features/<fit> of each fit of the occasion, and the ITEM_TABLES into their folders.

    Returns the facts `versions`, `cut_times`, `vocabulary_size` and `item_vectors`, each by fit.
    """
    config, folds = context.config, occasion.folds
    tokenizer = config.features.tokenizer
    subwords = WordPiece.from_folder(Path(tokenizer)) if tokenizer else None
    targets = tuple(EVENT_TYPES.index(name) for name in config.evaluation.target_events)
    output, scratch = context.new_directory("features"), context.new_directory("scratch")
    try:
        items = _written(_described(context, occasion), scratch / "items")
        learned = Learned(items, occasion.histories, folds, config.features, config.seed, scratch)
        versions, sizes, vectors = {}, {}, {}
        for fit in folds:
            item_ids, item_vectors = learned.item_vectors(fit)
            vocabulary = learned.vocabularies[fit]
            versions[fit] = FittedFeatures(
                fit=fit,
                cut=occasion.cut_times[fit],
                folds=folds[fit],
                targets=targets,
                settings=config.features,
                vocabulary=vocabulary,
                categories=learned.codes("category", fit, config.features.max_categories),
                brands=learned.codes("brand", fit, config.features.max_brands),
                price_edges=np.array(learned.price_edges[fit], dtype=np.float64),
                token_vectors=learned.token_vectors(fit),
                item_ids=item_ids,
                item_vectors=item_vectors,
                subwords=subwords,
            ).save(output / fit)
            sizes[fit], vectors[fit] = vocabulary.size, len(item_ids)
            context.progress(f"{fit}: {vocabulary.size:,} tokens, {len(item_ids):,} items with vectors from histories")
        write_items(items, [output / fit for fit in folds], tables)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {
        "versions": versions,
        "cut_times": dict(occasion.cut_times),
        "vocabulary_size": sizes,
        "item_vectors": vectors,
    }


class Learned:
    """What Spark counts for all fits in one pass each, and each fit takes its part of."""

    def __init__(
        self,
        items: DataFrame,
        histories: DataFrame,
        folds: Mapping[str, Sequence[int]],
        settings: Features,
        seed: int,
        scratch: Path,
    ) -> None:
        fits = tuple(folds)
        self._settings, self._seed, self._scratch = settings, seed, scratch
        stop_words = stop_list(settings.stop_words)
        self._terms = _written(count_terms(items, fits, settings.min_token_length, stop_words), scratch / "terms")
        known = sizes_and_edges(items, fits, settings.price_bands)
        self.price_edges = {fit: known[fit][1] for fit in fits}
        """Prices that divide the bands."""
        self.vocabularies = {fit: self._vocabulary(fit, known[fit][0]) for fit in fits}
        """Each fit's tokens."""
        self._kept = {fit: self._kept_items(items, fit) for fit in fits}
        window = settings.word2vec.window
        self._item_pairs = _written(
            history_pairs(histories, {fit: np.sort(index) for fit, (index, _) in self._kept.items()}, folds, window),
            scratch / "item_pairs",
        )
        self._token_pairs = _written(
            token_pairs(items, self.vocabularies, settings.min_token_length, stop_words, window),
            scratch / "token_pairs",
        )

    def codes(self, kind: str, fit: str, limit: int) -> Codes:
        """The fit's categories or brands."""
        return Codes(tuple(term for term, _ in top_terms(self._terms, kind, fit, limit)))

    def token_vectors(self, fit: str) -> Floats:
        """[vocabulary.size, D]."""
        word2vec, size = self._settings.word2vec, self.vocabularies[fit].size
        pairs = read_pairs(self._scratch / "token_pairs", self._token_pairs, fit, np.arange(size), word2vec.max_pairs)
        return embed(pairs, word2vec, self._seed)

    def item_vectors(self, fit: str) -> tuple[tuple[str, ...], Floats]:
        """Ids and [M, D] vectors of the items that have one, in the order of ids."""
        word2vec, (index, ids) = self._settings.word2vec, self._kept[fit]
        pairs = read_pairs(self._scratch / "item_pairs", self._item_pairs, fit, index, word2vec.max_pairs)
        vectors = embed(pairs, word2vec, self._seed)
        some = vectors.any(axis=1)
        return tuple(item for item, has in zip(ids, some, strict=True) if has), vectors[some]

    def _vocabulary(self, fit: str, documents: int) -> Vocabulary:
        terms = top_terms(self._terms, "token", fit, self._settings.vocabulary_size - FIRST_TOKEN)
        frequencies = np.array([count for _, count in terms], dtype=np.int64)
        return Vocabulary(tuple(token for token, _ in terms), frequencies, documents)

    def _kept_items(self, items: DataFrame, fit: str) -> tuple[np.ndarray, list[str]]:
        """item_index and item_id, in the order of item_id, of the items that get a vector from histories."""
        word2vec, events = self._settings.word2vec, F.col(f"events_{fit}")
        top = (
            items.where(events >= word2vec.min_count)
            .orderBy(events.desc(), F.col("item_id").asc())
            .limit(word2vec.max_items)
            .select("item_index", "item_id")
            .toArrow()
            .sort_by("item_id")
        )
        return top["item_index"].to_numpy().astype(np.int64), top["item_id"].to_pylist()


def _described(context: StageContext, occasion: Occasion) -> DataFrame:
    """All items with their text and what each fit's events say of them."""
    counts = item_counts(occasion.histories, occasion.folds)
    prices = None
    if any("price" in source.columns for source in context.config.source):
        prices = event_prices(context.read_table("clean_events"), occasion.as_of, occasion.starts, occasion.folds)
    return described_items(context.read_table("items"), counts, prices, tuple(occasion.folds))


def _written(frame: DataFrame, path: Path) -> DataFrame:
    """The rows as they were at their one computation."""
    frame.write.parquet(spark_path(path))
    return frame.sparkSession.read.schema(frame.schema).parquet(spark_path(path))
