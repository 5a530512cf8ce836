"""Trials of recommenders that Spark fits: the bundle of the select fit, and one scoring pass over valid users."""

from __future__ import annotations

import json
import shutil

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.datasets.split import VALID
from recsys_spark.errors import UserError
from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.fitting.registry import FITS
from recsys_spark.fusion.candidates import Candidates
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import Repeats, single
from recsys_spark.recommenders.bundle import CONFIG
from recsys_spark.recommenders.registry import KINDS
from recsys_spark.scoring.blocks import Moment, spread
from recsys_spark.scoring.candidates import candidate_rows, load_candidates
from recsys_spark.scoring.shipping import ship
from recsys_spark.tables.location import spark_path
from recsys_spark.tuning.referee import VALID_K

NO_VALID_USERS = (
    "valid window: no user with history has a target event with a known item in it, so settings cannot be judged; "
    "check evaluation.target_events, source.event_types and split.valid_days"
)


def fitted_ndcg(inputs: FitInputs, moment: Moment) -> float:
    """NDCG@10 on seeded valid users, at most `training.valid_users` of them, of the recommender that `inputs` fit.

    Repeats are treated as in the published lists (`fusion.repeats`), cold items as in the evaluation. Raises UserError
    where no user can be judged.
    """
    config, work = inputs.config, inputs.output.parent
    shutil.rmtree(work, ignore_errors=True)  # of a trial that was killed
    work.mkdir(parents=True)
    FITS[inputs.name](inputs)
    directory = work / "model"
    repeats: Repeats = config.fusion.repeats
    alone = single(inputs.name)
    FusedModel.save(
        directory,
        {inputs.name: inputs.output},
        inputs.output,  # nobody falls back here
        {"allow": alone, "drop": alone},
        config.evaluation.target_events,
        config.datasets.event_weights,
        repeats,
    )
    rows = candidate_rows(
        spread(inputs.spark, _valid_users(inputs), config.scoring.tasks),
        ship(inputs.spark, directory),
        moment,
        VALID,
        config.evaluation.target_events,
        config.evaluation.cold == "miss",
        VALID_K,
        config.scoring.block_mb << 20,
    )
    rows.write.parquet(spark_path(work / "candidates"))
    kind = json.loads((inputs.output / CONFIG).read_text(encoding="utf-8"))["kind"]
    return mean_ndcg(load_candidates(work / "candidates", [inputs.name]), repeats, KINDS[kind].silent_score)


def mean_ndcg(candidates: Candidates, repeats: Repeats, silent_score: float | None = None) -> float:
    """Mean NDCG@10 of the only recommender's published lists; a user whom it cannot score counts 0.

    Items at its `silent_score` are ranked, but in no list (`FusedModel.top`).
    """
    dropped = candidates.seen if repeats == "drop" else np.zeros_like(candidates.seen)
    counts = candidates.relevant_count - (candidates.relevant_seen if repeats == "drop" else 0)
    judged = counts > 0
    if not judged.any():
        raise UserError(NO_VALID_USERS)
    hidden = ~candidates.present | dropped
    scores = np.where(hidden, -np.inf, candidates.scores[:, :, 0])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :VALID_K]
    listed = ~hidden if silent_score is None else ~hidden & (scores != silent_score)
    hits = np.take_along_axis(candidates.relevant & listed, order, axis=1) & candidates.can_score[:, :1]
    discounts = 1.0 / np.log2(np.arange(VALID_K) + 2.0)
    gains = (hits * discounts[: order.shape[1]]).sum(axis=1)
    ideal = np.cumsum(discounts)[np.minimum(counts, VALID_K) - 1]
    return float((gains / ideal)[judged].mean())


def _valid_users(inputs: FitInputs) -> DataFrame:
    """Histories of the users of the valid window with the smallest hashes."""
    order = F.xxhash64(F.lit(inputs.config.seed), F.col("user_id"))
    valid = inputs.histories.where(F.array_contains("folds", VALID))
    return valid.orderBy(order, "user_id").limit(inputs.config.training.valid_users)
