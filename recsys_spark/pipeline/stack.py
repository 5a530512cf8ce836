"""Training the stacked fusion on the valid window, and whether it is better than what it is to replace.

The components are those of fit `select`, fitted before the window. Users are looked at from its start and, with
`fusion.stacked.moments` above 1, from later moments, up to which histories and item columns then go on; with
`fusion.stacked.own_moments` also just after something that they did themselves, up to which their histories go on
alone, as when live events extend them. Nothing that the trees see is later than what they predict.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sections import Repeats
from recsys_spark.datasets.split import TRAIN, VALID
from recsys_spark.fusion.features import feature_owners
from recsys_spark.fusion.ranking_table import RankingTable
from recsys_spark.fusion.settings import FusionSettings, Stack, average
from recsys_spark.fusion.stack_fit import FittedStack, StackSettings, fit_stack
from recsys_spark.pipeline.fits import model_bundles, moment_of
from recsys_spark.pipeline.passes import MODES, Settings, counted_columns, search_users, shipped, with_fold
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.recommenders.histories import SECONDS_A_DAY
from recsys_spark.scoring.blocks import spread
from recsys_spark.scoring.stacking import Question, load_stack, stack_rows
from recsys_spark.tables.location import spark_path

TREES = "stacked-{}.trees.txt"
"""The file of a mode's trees."""


def settle_stack(context: StageContext, rivals: Settings, metrics: dict[str, float]) -> Settings:
    """For each mode of repeats the stacked fusion, or the rival where users who were held out are served better by it.

    Adds to the metrics. The rivals were chosen on the very users on whom they are compared, so they have the advantage.
    """
    fusion, seed = context.config.fusion, context.config.seed
    k = fusion.optimise_k
    depth = candidates_of(context)
    path = _write_table(context, rivals, depth)
    table = load_stack(path, context.config.models)
    shutil.rmtree(path)
    best: Settings = {}
    for mode in MODES:
        best[mode] = rivals[mode]
        own = table.of_mode(mode)
        fitted = fit_stack(own, k, stack_settings(context), seed)
        if fitted is None:
            rival = _name(rivals[mode])
            context.progress(f"fusion, repeats {mode}: too few users with a label to stack on, {rival} is taken")
            continue
        first = own.moments == 0  # the rivals know no other moment
        before, stacked = float(np.mean(own.rivals[mode][first])), float(np.mean(fitted.held_out[first]))
        better = stacked >= before + fusion.min_gain
        metrics |= {
            f"stacked.ndcg_at_{k}.{mode}": stacked,
            f"stacked.rival_ndcg_at_{k}.{mode}": before,
            f"stacked.recall.{mode}": _recall(own),
            f"stacked.trees.{mode}": float(fitted.num_trees),
            f"stacked.boosters.{mode}": float(fitted.num_boosters),
            f"stacked.taken.{mode}": float(better),
        }
        context.progress(
            f"fusion, repeats {mode}: {fitted.num_trees} trees have NDCG@{k} {stacked:.4f} on {first.sum()} users "
            f"held out, {_name(rivals[mode])} has {before:.4f}: {'stacked' if better else 'the latter'} is taken"
        )
        later = own.moments >= context.config.fusion.stacked.moments
        if later.any():
            metrics[f"stacked.own_ndcg_at_{k}.{mode}"] = float(np.mean(fitted.held_out[later]))
        _tell_importance(context, fitted, mode)
        if better:
            best[mode] = _setting(context, fitted, depth, mode)
    return best


def candidates_of(context: StageContext) -> int:
    """Best items of each component that are ranked: at least as many as the longest list has places."""
    config = context.config
    return max(config.fusion.stacked.candidates, config.fusion.k, *config.evaluation.k)


def stack_settings(context: StageContext) -> StackSettings:
    """The configured way of growing trees."""
    given = context.config.fusion.stacked.model_dump(exclude={"candidates", "users", "moments", "own_moments"})
    return StackSettings(**given)


def moments_of(context: StageContext) -> list[int | None]:
    """The moments from which users are looked at, in epoch seconds: parts of what makes labels, of equal length.

    A split that is not temporal has the one moment, which is no time.
    """
    start, end = moment_of("select", context).now, _label_end(context)
    if start is None:
        return [None]
    end = end or int(context.facts("build_datasets")["cut_times"]["test"])
    parts = context.config.fusion.stacked.moments
    return [start + (end - start) * part // parts for part in range(parts)]


def moved_on(histories: DataFrame, now: int) -> DataFrame:
    """Histories whose events of the valid window before `now` belong to the train fold."""

    def fold(each: Column, place: Column) -> Column:
        past = (each == VALID) & (F.get("times", place) < now)
        return F.when(past, F.lit(TRAIN)).otherwise(each)

    return histories.withColumn("folds", F.transform("folds", fold))


def _label_end(context: StageContext) -> int | None:
    """Epoch seconds at which labels end, None for the end of the window."""
    days, now = context.config.fusion.stack_days, moment_of("select", context).now
    assert days is None or now is not None, "days are counted where the split is temporal"
    return None if days is None or now is None else now + days * int(SECONDS_A_DAY)


def _write_table(context: StageContext, rivals: Settings, depth: int) -> Path:
    """The table that trees are trained on: at most `fusion.stacked.users` users of the valid window."""
    config = context.config
    users = search_users(context, config.fusion.stacked.users)
    question = Question(
        fold=VALID,
        target_events=config.evaluation.target_events,
        count_unknown=config.evaluation.cold == "miss",
        label_end=_label_end(context),
        k=config.fusion.optimise_k,
    )
    bundle = model_bundles("select", context)[1]
    tables, directories = [], []
    for place, now in enumerate(moments_of(context)):
        moment, mine, moved = moment_of("select", context), users, None
        if place and now is not None:
            moment, mine = replace(moment, now=now), moved_on(users, now)
            moved = (moved_on(context.read_table("histories"), now), now)
        columns = counted_columns(context, "select", bundle, moved)
        model, _ = shipped(context, "select", rivals, columns, f"-stack-{place}")
        directories.append(context.run_directory / f"model-select-stack-{place}")
        spread_users = spread(context.spark, with_fold(mine, VALID), config.scoring.tasks)
        first_of_time = not place and now is not None
        own = config.fusion.stacked.own_moments if first_of_time else 0
        asked = replace(question, moment=place, own=own, own_from=config.fusion.stacked.moments, seed=config.seed)
        mode_rivals = None if place else rivals
        tables.append(stack_rows(spread_users, model, moment, asked, mode_rivals, depth, config.scoring.block_mb << 20))
    path = context.run_directory / "stack"
    reduce(DataFrame.unionByName, tables).write.parquet(spark_path(path))
    for directory in directories:
        shutil.rmtree(directory)
    return path


def _recall(table: RankingTable) -> float:
    """Of what is relevant at the window's start, the share that is among the candidates."""
    first = table.moments == 0
    return float(table.relevant[first[table.users]].sum() / max(table.relevant_count[first].sum(), 1))


def _setting(context: StageContext, fitted: FittedStack, depth: int, mode: Repeats) -> FusionSettings:
    """The weights say what share of the trees' gain is of each component's features; scoring does not read them."""
    names = context.config.models
    shares: dict[str, float] = dict.fromkeys(names, 0.0)
    for owner, gain in zip(feature_owners(names), fitted.importance.values(), strict=True):
        if owner in shares:
            shares[owner] += gain
    plain = average(names)
    components = tuple(replace(each, weight=max(shares[each.name], 1e-6)) for each in plain.components)
    return FusionSettings("stacked", components, stack=Stack(depth, TREES.format(mode), fitted.trees))


def _tell_importance(context: StageContext, fitted: FittedStack, mode: Repeats) -> None:
    order = sorted(fitted.importance, key=lambda name: (-fitted.importance[name], name))[:8]
    told = ", ".join(f"{name} {fitted.importance[name]:.0%}" for name in order)
    context.progress(f"stacked, repeats {mode}: most of the trees' gain is by {told}")


def _name(setting: FusionSettings) -> str:
    if setting.method == "single":
        return setting.components[0].name
    return "segmented" if setting.segments is not None else setting.method
