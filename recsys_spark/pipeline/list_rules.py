"""The configured business rules, compiled for the model of a fit from the tables of items and users.

The driver holds the items' categories, brands, prices and ages, and a bit for each user of a segment by attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from torch import Tensor

from recsys_spark.config import Config
from recsys_spark.config.cleaning import ItemIds
from recsys_spark.config.rules import Rules, Segment
from recsys_spark.datasets.split import FIT_FOLDS
from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fusion.redress import has_rules, redress, vocabulary_of
from recsys_spark.fusion.rules.compile import ItemFacts, Names, compile_rules
from recsys_spark.fusion.rules.compiled import TEXT, ListRules
from recsys_spark.pipeline.fits import FitName, moment_of, parameters_of
from recsys_spark.pipeline.keys import paths_manifest
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.scoring.intervals import item_intervals
from recsys_spark.tables.location import spark_path

if TYPE_CHECKING:
    from recsys_spark.tracking.runs import Tracker

NEVER = np.iinfo(np.int64).min // 2
"""First seen: of an item of which it is not known, long ago."""


def compiled_rules(context: StageContext, fit: FitName, vocabulary: Vocabulary) -> ListRules | None:
    """The rules over a fit's vocabulary, at the fit's moment of recommendation; None where none is configured."""
    rules = context.config.rules
    if not rules.on:
        return None
    assert context.as_of is not None, "whoever recommends has read events, so the date is known"
    now = moment_of(fit, context).now
    facts = _item_facts(context, fit, vocabulary)
    named = (
        *rules.out_of_stock,
        *_listed("out_of_stock_file", rules.out_of_stock_file),
        *rules.blocked_items,
        *_listed("blocked_items_file", rules.blocked_items_file),
    )
    compiled = compile_rules(
        rules,
        facts,
        int(context.as_of.replace(tzinfo=UTC).timestamp()) if now is None else now,
        context.config.seed,
        [_spelled(item, context.config.cleaning.item_ids) for item in named],
        _intervals(context, fit, vocabulary) if rules.interval.share else None,
        {name: _members(context, name, each) for name, each in rules.segments.items() if each.attribute is not None},
        _text_vectors(context, fit, vocabulary) if rules.diversity.weight and rules.diversity.vectors == TEXT else None,
    )
    unknown = len(rules.pins) - len(compiled.pins)
    if unknown:
        context.progress(f"rules: {unknown} pinned items are not known to the {fit} fit, so they are not pinned there")
    return compiled


def under_rules(context: StageContext, directory: Path) -> Path:
    """The model in `directory` under the rules of today: a copy, where it was made under those of another day.

    A champion keeps the rules that held when it was registered; stock, dates and blocked items are of the day on which
    lists are made.
    """
    own = context.run_directory / "model"
    if directory == own or not (context.config.rules.on or has_rules(directory)):
        return directory
    target = context.run_directory / "served"
    redress(directory, target, compiled_rules(context, "publish", vocabulary_of(directory)))
    return target


def write_lists(context: StageContext, rows: DataFrame) -> int:
    """Write table recommendations and, where places are drawn, table exposures, in one pass; the rows of the former."""
    exploration = context.config.rules.exploration
    if not exploration.share:
        return context.write_table("recommendations", rows)
    rows = rows.persist()
    try:
        count = context.write_table("recommendations", rows)
        context.write_table("exposures", rows.withColumn("policy", F.lit(policy_name(context.config.rules))))
    finally:
        rows.unpersist()
    return count


def policy_name(rules: Rules) -> str:
    """The name of the drawing policy, with all that its propensities depend on besides the model."""
    draw = rules.exploration
    return f"uniform_new share={draw.share:g} candidates={draw.candidates} first_rank={draw.first_rank} " + (
        f"days={rules.new_items.days}"
    )


def and_rule_files(follows: Callable[[Config, Tracker], Any]) -> Callable[[Config, Tracker], Any]:
    """What a stage follows, and the files that rules name."""
    return lambda config, tracker: [follows(config, tracker), paths_manifest(config.rules.files)]


def _item_facts(context: StageContext, fit: FitName, vocabulary: Vocabulary) -> ItemFacts:
    columns = ["item_index", "item_id", "category", "brand"]
    items = ds.dataset(context.inputs["build_features"].path("items"), format="parquet").to_table(columns=columns)
    codes = vocabulary.codes_of_indices(items["item_index"].to_numpy())
    described = {
        name: Names(
            name, _at_codes(items[name], codes, vocabulary.size), pc.unique(items[name]).drop_null().to_pylist()
        )
        for name in ("category", "brand")
    }
    prices = np.full(vocabulary.size, np.nan)
    first_seen = np.full(vocabulary.size, NEVER, dtype=np.int64)
    for batch in _feature_rows(context, "item_features", fit, ["item_index", "price", "first_seen"]):
        own = vocabulary.codes_of_indices(batch.column("item_index").to_numpy(zero_copy_only=False))
        days = pc.cast(batch.column("first_seen"), pa.int32()).to_numpy(zero_copy_only=False).astype(np.float64)
        price = batch.column("price").to_numpy(zero_copy_only=False).astype(np.float64)
        known = own >= 0
        prices[own[known]] = price[known]
        seen = known & ~np.isnan(days)
        first_seen[own[seen]] = days[seen].astype(np.int64) * 86400
    ids = set(items["item_id"].to_pylist())
    return ItemFacts(vocabulary, described["category"], described["brand"], prices, first_seen, ids.__contains__)


def _at_codes(column: pa.ChunkedArray, codes: npt.NDArray[np.int64], size: int) -> list[str | None]:
    """The values [I] in the order of codes."""
    values: list[str | None] = [None] * size
    for code, value in zip(codes.tolist(), column.to_pylist(), strict=True):
        if code >= 0:
            values[code] = value
    return values


def _feature_rows(context: StageContext, table: str, fit: FitName, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows that fit_features wrote for the fit whose parameters are used."""
    own = ds.field("fit") == parameters_of(fit, context.config)
    dataset = ds.dataset(context.inputs["fit_features"].path(table), format="parquet")
    yield from dataset.to_batches(columns=columns, filter=own)


def _intervals(context: StageContext, fit: FitName, vocabulary: Vocabulary) -> npt.NDArray[np.float32]:
    """[I] median days between purchases, NaN where there are too few of them."""
    config = context.config
    types = [EVENT_TYPES.index(name) for name in config.evaluation.target_events]
    folds = FIT_FOLDS[parameters_of(fit, config)]
    frame = item_intervals(context.read_table("histories"), folds, types, config.rules.interval.min_gaps)
    path = context.run_directory / f"intervals-{fit}"
    frame.write.mode("overwrite").parquet(spark_path(path))
    found = ds.dataset(path, format="parquet").to_table(columns=["item_index", "days"])
    codes = vocabulary.codes_of_indices(found["item_index"].to_numpy())
    days = np.full(vocabulary.size, np.nan, dtype=np.float32)
    days[codes[codes >= 0]] = found["days"].to_numpy()[codes >= 0]
    return days


def _text_vectors(context: StageContext, fit: FitName, vocabulary: Vocabulary) -> Tensor:
    """[I, D] the items' vectors by their words, zeros where an item has none."""
    vectors: npt.NDArray[np.float32] | None = None
    for batch in _feature_rows(context, "item_vectors", fit, ["item_index", "text_vector"]):
        codes = vocabulary.codes_of_indices(batch.column("item_index").to_numpy(zero_copy_only=False))
        column = batch.column("text_vector")
        have = np.asarray(pc.is_valid(column)) & (codes >= 0)
        rows = column.filter(pa.array(have))
        if not len(rows):
            continue
        values = rows.flatten().to_numpy().reshape(len(rows), -1)
        if vectors is None:
            vectors = np.zeros((vocabulary.size, values.shape[1]), dtype=np.float32)
        vectors[codes[have]] = values
    if vectors is None:
        raise UserError("rules.diversity.vectors: text, but no item has a known word; name a recommender of models")
    return torch.from_numpy(vectors)


def _members(context: StageContext, name: str, segment: Segment) -> Tensor:
    """[n] uint8, a bit for each user index: the users whose attribute has one of the segment's values."""
    assert segment.attribute is not None
    wanted = {value.strip().casefold() for value in segment.values}
    inside = np.full(1, segment.unknown)
    seen: set[str] = set()
    dataset = ds.dataset(context.inputs["fit_features"].path("user_features"), format="parquet")
    for batch in dataset.to_batches(columns=["user_index", "attributes"]):
        values = pc.map_lookup(batch.column("attributes"), pa.scalar(segment.attribute), "first")
        index = batch.column("user_index").to_numpy(zero_copy_only=False).astype(np.int64)
        if not index.size:
            continue
        folded = [None if value is None else value.strip().casefold() for value in values.to_pylist()]
        seen.update(value for value in folded if value in wanted)
        grown = np.full(max(inside.size, int(index.max()) + 1), segment.unknown)
        grown[: inside.size] = inside
        inside = grown
        inside[index] = [segment.unknown if value is None else value in wanted for value in folded]
    missing = [value for value in segment.values if value.strip().casefold() not in seen]
    if missing:
        raise UserError(
            f"rules.segments.{name}.values: no user has {segment.attribute} {missing[0]!r}; see the table user_features"
        )
    padded = np.full(-(-inside.size // 8) * 8, segment.unknown)
    padded[: inside.size] = inside
    return torch.from_numpy(np.packbits(padded, bitorder="little"))


def _listed(key: str, path: str | None) -> list[str]:
    """The ids of a text file, one a line; none without a file. Raises UserError where it cannot be read."""
    if path is None:
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"rules.{key}: {path} is missing or no UTF-8 text; give a file of one item id a line") from None
    return [line.strip() for line in lines if line.strip()]


def _spelled(item: str, rule: ItemIds) -> str:
    """The id in the spelling of `cleaning.item_ids`, as `events.rules.spelling` does it in Spark."""
    if rule.blanks == "remove":
        item = "".join(item.split())
    return item if rule.case == "keep" else item.upper() if rule.case == "upper" else item.lower()
