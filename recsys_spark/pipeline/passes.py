"""Passes over users with the models of a fit: what settling the fusion and measuring it have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sections import Repeats
from recsys_spark.datasets.split import FIT_FOLDS, TEST, VALID
from recsys_spark.fusion.item_columns import ItemColumns
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings
from recsys_spark.pipeline.fits import FitName, model_bundles, moment_of, parameters_of
from recsys_spark.pipeline.list_rules import compiled_rules
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.scoring.blocks import spread
from recsys_spark.scoring.evaluate import evaluation_rows
from recsys_spark.scoring.item_columns import count_item_events, item_columns
from recsys_spark.scoring.shipping import ShippedModel, ship

FUSED = "fused"
RULED = "fused_with_rules"
"""The lists of the fusion under the business rules, where any are configured."""
Settings = dict[Repeats, FusionSettings]
MODES: tuple[Repeats, ...] = ("allow", "drop")


def list_rows(
    context: StageContext,
    model: ShippedModel,
    fit: FitName,
    fold: int,
    fusions: Mapping[str, Settings],
    users: DataFrame,
    k: int | None = None,
) -> DataFrame:
    """Lists of every recommender and of the fusions for the users whose histories are given."""
    config = context.config
    modes: tuple[Repeats, ...] = config.evaluation.modes if fold == TEST else MODES
    return evaluation_rows(
        spread(context.spark, users, config.scoring.tasks),
        model,
        moment_of(fit, context),
        fusions,
        modes,
        k or max(config.evaluation.k),
        config.scoring.block_mb << 20,
        ruled={FUSED: RULED} if config.rules.on and fit == "test" else None,
    )


def shipped(
    context: StageContext, fit: FitName, settings: Settings, columns: ItemColumns | None = None, apart: str = ""
) -> tuple[ShippedModel, int]:
    """A model directory of a fit's bundles within the run directory, shipped; and its number of items.

    Item columns are counted where a fusion is stacked; `columns` are those that were already, for a directory whose
    name ends in `apart`.
    """
    directory = context.run_directory / f"model-{fit}{apart}"
    bundles, fallback = model_bundles(fit, context)
    vocabulary = Vocabulary.load(next(iter(bundles.values())) / "vocabulary.parquet")
    FusedModel.save(
        directory,
        bundles,
        fallback,
        settings,
        context.config.evaluation.target_events,
        context.config.datasets.event_weights,
        context.config.fusion.repeats,
        compiled_rules(context, fit, vocabulary) if fit == "test" else None,
        columns if columns is not None else columns_for(context, fit, settings, fallback),
        context.config.fusion.explain_items,
    )
    return ship(context.spark, directory), vocabulary.size


def columns_for(context: StageContext, fit: FitName, settings: Settings, bundle: Path) -> ItemColumns | None:
    """The item columns of a fit, None where no fusion of the settings is stacked. `bundle` is any of the fit's."""
    stacked = any(setting.stack is not None for setting in settings.values())
    return counted_columns(context, fit, bundle) if stacked else None


def counted_columns(
    context: StageContext, fit: FitName, bundle: Path, moved: tuple[DataFrame, int] | None = None
) -> ItemColumns:
    """The item columns as of the moment at which the fit recommends: from the folds that its histories hold, no other.

    `moved` are other histories and another moment (epoch seconds) for them.

    Category, brand and price are those that the fit's own features say, whose parameters have the same cut or an
    earlier one.
    """
    config = context.config
    now = moment_of(fit, context).now if moved is None else moved[1]
    if now is None:  # leave_one_out: users have moments of their own; items are counted to the newest event of all
        now = int(context.facts("build_datasets")["cut_times"][fit]) + 1
    histories = context.read_table("histories") if moved is None else moved[0]
    described = context.read_table("item_features").where(F.col("fit") == parameters_of(fit, config))
    return item_columns(
        count_item_events(histories, FIT_FOLDS[fit], now, config.evaluation.target_events),
        described.select("item_index", "price", "category_code", "brand_code"),
        now,
        bundle / "vocabulary.parquet",
        context.run_directory / f"item-columns-{fit}",
    )


def with_fold(histories: DataFrame, fold: int) -> DataFrame:
    """The users with an event in the fold."""
    return histories.where(F.array_contains("folds", fold))


def search_users(context: StageContext, users: int) -> DataFrame:
    """The histories of that many seeded users of the valid window."""
    valid_users = with_fold(context.read_table("histories"), VALID)
    order = F.xxhash64(F.lit(context.config.seed), F.col("user_id"))
    return valid_users.orderBy(order, "user_id").limit(users)
