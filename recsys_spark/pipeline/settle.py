"""Settling the fusion on the valid window: searched, compared with what is simpler on all valid users, or trained."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from recsys_spark.config.sections import Repeats
from recsys_spark.datasets.split import VALID
from recsys_spark.errors import UserError
from recsys_spark.fusion.candidates import Candidates
from recsys_spark.fusion.cascade import retrievers
from recsys_spark.fusion.search import recall, search_segments, search_weights
from recsys_spark.fusion.settings import Cascade, FusionSettings, average, single
from recsys_spark.pipeline.fits import moment_of
from recsys_spark.pipeline.measure import valid_ndcg
from recsys_spark.pipeline.passes import MODES, Settings, list_rows, search_users, shipped, with_fold
from recsys_spark.pipeline.stack import settle_stack
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.scoring.blocks import spread
from recsys_spark.scoring.candidates import candidate_rows, load_candidates, stage_seconds
from recsys_spark.scoring.shipping import ShippedModel
from recsys_spark.tables.location import spark_path


def settle_fusion(context: StageContext) -> tuple[Settings, dict[str, float]]:
    """The fusion's settings for each mode of repeats, from the valid window alone, and what it scored there.

    Raises UserError where the valid window has nothing to choose by.
    """
    names, fusion = context.config.models, context.config.fusion
    equal: Settings = {mode: average(names) for mode in MODES}
    if fusion.method == "average" or (len(names) == 1 and fusion.method != "stacked"):
        return equal, {}
    metrics: dict[str, float] = {}
    model, items = shipped(context, "select", equal)
    if fusion.method == "cascade":
        cascade = Cascade(retrievers(names, fusion.cascade.retrieve), fusion.cascade.candidates)
        found = _searched(context, model, equal, cascade, metrics)["weighted"]
        best = _confirmed(context, model, items, {"cascade": found}, cascade.retrieve, metrics)
        return best, metrics
    if len(names) > 1:
        tried = {**_searched(context, model, equal, None, metrics), "average": equal}
        best = _confirmed(context, model, items, tried, names, metrics)
    else:
        best = {mode: single(names[0]) for mode in MODES}
    if fusion.method == "stacked":
        best = settle_stack(context, best, metrics)
    return best, metrics


def _searched(
    context: StageContext, model: ShippedModel, equal: Settings, cascade: Cascade | None, metrics: dict[str, float]
) -> dict[str, Settings]:
    """`weighted`: the searched weights for all users; `segmented`: with weights of segments, where these gain."""
    fusion = context.config.fusion
    path = _write_candidates(context, model, cascade)
    candidates = load_candidates(path, context.config.models)
    if not len(candidates.relevant_count):
        raise UserError(
            "valid window: no user with history has a target event with a known item in it, so nothing can be chosen; "
            "check evaluation.target_events, source.event_types and split.valid_days, or set fusion.method=average"
        )
    found: Settings = {}
    segmented: Settings = {}
    for mode in MODES:
        if mode == "drop" and (candidates.relevant_count == candidates.relevant_seen).all():
            context.progress("fusion, repeats drop: every valid target is a repeat, so the average is taken")
            found[mode] = _of_cascade(equal[mode], cascade)
            continue
        result = search_weights(candidates, mode, fusion.optimise_k, fusion.min_gain)
        found[mode] = _of_cascade(result.settings, cascade)
        metrics[f"search.ndcg_at_{fusion.optimise_k}.{mode}"] = result.ndcg
        context.progress(
            f"fusion, repeats {mode}: {_words(result.settings)}; NDCG@{fusion.optimise_k} {result.ndcg:.4f} on search "
            "users"
        )
        if cascade is not None:
            _tell_stages(context, candidates, mode, result.settings, path, metrics)
        elif fusion.segments is not None:
            own = _of_segments(context, candidates, mode, result.settings)
            if own is not None:
                segmented[mode] = own
    shutil.rmtree(path)  # it is as large as the search, and no output
    return {"weighted": found} | ({"segmented": {**found, **segmented}} if segmented else {})


def _of_cascade(setting: FusionSettings, cascade: Cascade | None) -> FusionSettings:
    return setting if cascade is None else replace(setting, method="cascade", cascade=cascade)


def _of_segments(
    context: StageContext, candidates: Candidates, mode: Repeats, for_all: FusionSettings
) -> FusionSettings | None:
    fusion = context.config.fusion
    assert fusion.segments is not None
    edges = (fusion.segments.light, fusion.segments.heavy)
    found = search_segments(
        candidates, mode, fusion.optimise_k, fusion.min_gain, for_all, edges, fusion.segments.min_users
    )
    if found is None or found.segments is None:
        context.progress(f"fusion, repeats {mode}: no segment of users gains by weights of its own")
        return None
    for name, components in found.segments.components.items():
        context.progress(f"fusion, repeats {mode}, {name} users: {_words(replace(found, components=components))}")
    return found


def _tell_stages(
    context: StageContext,
    candidates: Candidates,
    mode: Repeats,
    setting: FusionSettings,
    path: Path,
    metrics: dict[str, float],
) -> None:
    """A cascade's recall and cost, stage by stage."""
    k = context.config.fusion.optimise_k
    retrieved, ranked = recall(candidates, mode, k, setting)
    retrieve, score = stage_seconds(path)
    metrics |= {
        f"cascade.retrieve.recall.{mode}": retrieved,
        f"cascade.score.recall_at_{k}.{mode}": ranked,
        "cascade.retrieve.seconds_per_1000_users": retrieve,
        "cascade.score.seconds_per_1000_users": score,
    }
    context.progress(
        f"cascade, repeats {mode}: of what is relevant {retrieved:.1%} is retrieved ({retrieve:.2f} s for 1,000 users) "
        f"and {ranked:.1%} is among the best {k} ({score:.2f} s)"
    )


def _words(setting: FusionSettings) -> str:
    return ", ".join(f"{c.weight:.3g} {c.name} ({c.normaliser.method})" for c in setting.components)


def _write_candidates(context: StageContext, model: ShippedModel, cascade: Cascade | None) -> Path:
    """The search's table: at most `fusion.search_users` users."""
    config = context.config
    rows = candidate_rows(
        spread(context.spark, search_users(context, config.fusion.search_users), config.scoring.tasks),
        model,
        moment_of("select", context),
        VALID,
        config.evaluation.target_events,
        config.evaluation.cold == "miss",
        config.fusion.search_candidates,
        config.scoring.block_mb << 20,
        cascade,
    )
    path = context.run_directory / "candidates"
    rows.write.parquet(spark_path(path))
    return path


def _confirmed(
    context: StageContext,
    model: ShippedModel,
    items: int,
    tried: Mapping[str, Settings],
    rivals: Sequence[str],
    metrics: dict[str, float],
) -> Settings:
    """The best on all valid users, by one full pass: what was tried, or one of the `rivals`, single recommenders.

    Weights of segments must gain `fusion.min_gain` over those for all.
    """
    fusion, k = context.config.fusion, context.config.fusion.optimise_k
    users = with_fold(context.read_table("histories"), VALID)
    lists = list_rows(context, model, "select", VALID, tried, users, k).persist()
    try:
        valued = valid_ndcg(context, lists, [*context.config.models, *tried], items, k)
    finally:
        lists.unpersist()
    best: Settings = {}
    everything = {**{name: {mode: single(name) for mode in MODES} for name in rivals}, **tried}
    for mode in MODES:
        scored = valued[mode]
        metrics |= {f"valid.ndcg_at_{k}.{name}.{mode}": value for name, value in scored.items()}
        running = {name: scored[name] - (fusion.min_gain if name == "segmented" else 0) for name in everything}
        winner = max(running, key=lambda name: (running[name], name == "average", name))
        best[mode] = everything[winner][mode]
        context.progress(f"fusion, repeats {mode}: {winner} is confirmed with NDCG@{k} {scored[winner]:.4f} on valid")
    return best
