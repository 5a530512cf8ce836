"""Learns how much a user's history of categories or brands weighs beside a trained network, from the train window.

The network stays as it is. Of some users the history is cut at a drawn moment of its second half, and what came next
are the targets. The weights are those of the most likely softmax over the catalogue (concave in them, so Newton's
method finds it), the prior and the half-life the best of a few. Items of a kind have the same lifts, so the catalogue
is gone through once, for the mass that the network gives each kind.

Letters as in `models.affinity`; T targets, E events of the users read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from pyspark.sql import functions as F
from torch import Tensor

from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.models.affinity import Affinity, Decay
from recsys_spark.models.content import Content
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.histories import SECONDS_A_DAY, HistoryBlock, ragged_batch
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.recommenders.vocabulary import Vocabulary

MOST_USERS = 2_000
MOST_EVENTS = 5_000
"""Events of a history, the newest ones, that are read for learning: the driver holds no more than these times users."""
MOST_CELLS = 1 << 24
"""Users times kinds: where there are many kinds, fewer users are learned from."""
TARGETS = 20
"""Events after the cut that are targets."""
PRIORS = (5.0, 20.0, 80.0, 320.0)
HALF_LIVES: tuple[float | None, ...] = (None, 360.0, 90.0, 30.0)
RIDGE = 1e-4
"""Penalty on half the squared weights, beside a mean over users: weights that nothing speaks for are zero."""
NEWTON_STEPS = 20
BLOCK_BYTES = 64 * 2**20
"""Scores [B, I] that are held at once."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """Histories before a moment, and what came next."""

    before: UserBatch
    row_T: Tensor
    """[T] int64 row of the batch that each target is of."""
    code_T: Tensor
    """[T] int64 its item."""


def fit_affinity(inputs: FitInputs, network: NeuralRecommender, content: Content) -> Affinity | None:
    """The affinity that the network's composition names, learnt beside the network as it was trained.

    `content` is that of the fit's items. None where they are all of one kind.
    """
    sizes, names = network.composition.content, network.composition.affinity
    assert sizes is not None, "an affinity is of what the content says"
    largest = {"category": sizes.categories, "brand": sizes.brands, "price_band": sizes.price_bands}
    counts = pq.read_table(inputs.vocabulary, columns=["count"], partitioning=None)["count"].to_numpy()
    blank = Affinity.of(names, content, largest, torch.tensor(counts))
    kinds = len(blank.kinds[0])
    if kinds < 2:
        inputs.progress("affinity: all items have the same attributes, none is learnt")
        return None
    found = learnt(blank, network, _cut(inputs, max(1, min(MOST_USERS, MOST_CELLS // kinds))))
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, found.weights_A.tolist(), strict=True))
    inputs.progress(f"affinity: {weights}, prior {found.decay.prior:g} events, half-life {found.decay.half_life_days}")
    return found


def _cut(inputs: FitInputs, users: int) -> Cut:
    """The histories of at most so many users, the same for any order of the table."""
    event = F.arrays_zip("items", "event_types", "weights", "times", "folds")
    seen = F.filter(event, lambda one: one["folds"].isin(*inputs.folds))
    newest = F.slice(seen, F.greatest(F.size(seen) - MOST_EVENTS + 1, F.lit(1)), MOST_EVENTS)
    drawn = F.xxhash64(F.lit(inputs.config.seed), F.col("user_index"))
    some = inputs.histories.select("user_index", newest.alias("event"), drawn.alias("drawn"))
    some = some.where(F.size("event") > 1).orderBy("drawn", "user_index").limit(users)
    names = ("items", "event_types", "weights", "times", "folds")
    table = some.select("user_index", *(F.col(f"event.{name}").alias(name) for name in names)).toArrow()
    block = HistoryBlock.from_arrow(table.sort_by("user_index").combine_chunks())
    vocabulary = Vocabulary.load(inputs.vocabulary)
    return cut(block, vocabulary.codes_of_indices(block.items), inputs.config.seed)


def cut(block: HistoryBlock, codes: Ints, seed: int) -> Cut:
    """Cut each history where a moment begins, at a drawn place of its second half; those of one moment are left out.

    `codes` [E] are the events' items, -1 where the fit does not know one.
    """
    kept = codes >= 0
    users, times, codes = block.users[kept], block.times[kept], codes[kept]
    lengths = np.bincount(users, minlength=block.size)
    starts = np.cumsum(lengths) - lengths
    drawn = np.random.default_rng(seed).random(block.size)
    place = starts + (lengths * (0.5 + 0.5 * drawn)).astype(np.int64)
    moment = np.where(lengths > 0, times[np.minimum(place, max(len(times) - 1, 0))] if len(times) else 0, 0)
    before = times < moment[users]
    rank = np.arange(len(users)) - (starts + np.bincount(users[before], minlength=block.size))[users]
    target = ~before & (rank < TARGETS) & (np.bincount(users[before], minlength=block.size) > 0)[users]
    ages = (moment[users] - times) / SECONDS_A_DAY
    types, weights = block.event_types[kept][before], block.weights[kept][before]
    history = ragged_batch(codes[before], types, weights, ages[before], users[before], block.size, block.user_index)
    return Cut(history, torch.from_numpy(users[target]), torch.from_numpy(codes[target]))


def learnt(affinity: Affinity, network: Recommender, cut: Cut) -> Affinity:
    """The affinity with weights, prior and half-life that make the targets likeliest; of equals the first."""
    if not cut.row_T.numel():
        return affinity
    log_mass_BQ, can_B = _log_mass(affinity, network, cut.before)
    asked_B = can_B & (torch.bincount(cut.row_T, minlength=cut.before.size) > 0)
    if not bool(asked_B.any()):
        return affinity
    best, most = affinity, -torch.inf
    for prior, half_life in product(PRIORS, HALF_LIVES):
        tried = replace(affinity, decay=Decay(prior, half_life))
        weights_A, gain = _most_likely(tried, affinity.kinds, log_mass_BQ, cut, asked_B)
        if gain > most:
            best, most = replace(tried, weights_A=weights_A.float()), gain
    return best


def _log_mass(affinity: Affinity, network: Recommender, batch: UserBatch) -> tuple[Tensor, Tensor]:
    """Log of the sum of exp(score) over the items of each kind [B, Q], up to a number a user, and can_score [B]."""
    codes_QA, kind_I = affinity.kinds
    masses, able, block = [], [], max(1, BLOCK_BYTES // (4 * max(1, kind_I.numel())))
    for start in range(0, batch.size, block):
        scored = network.score(batch.rows(start, min(start + block, batch.size)))
        shares_BI = scored.scores.softmax(dim=1)
        sums_BQ = torch.zeros(len(shares_BI), len(codes_QA)).index_add_(1, kind_I, shares_BI)
        masses.append(sums_BQ.clamp_min(torch.finfo(torch.float32).tiny).log_())
        able.append(scored.can_score)
    return torch.cat(masses), torch.cat(able)


def _most_likely(
    affinity: Affinity, kinds: tuple[Tensor, Tensor], log_mass_BQ: Tensor, cut: Cut, asked_B: Tensor
) -> tuple[Tensor, float]:
    """Weights [A] and the mean over the asked users of what they add to the log likelihood of a target."""
    users_U = asked_B.nonzero().squeeze(1)
    codes_QA, kind_I = kinds
    lifts_AUQ = torch.stack(
        [
            affinity.lifts(place, cut.before.items, cut.before.ages, cut.before.users, cut.before.size)[users_U][
                :, codes_QA[:, place]
            ]
            for place in range(len(affinity.attributes))
        ]
    )
    row_U = torch.full_like(asked_B, -1, dtype=torch.int64)
    row_U[users_U] = torch.arange(users_U.numel())
    row_T, kept_T = row_U[cut.row_T], asked_B[cut.row_T]
    wanted_AT = lifts_AUQ[:, row_T[kept_T], kind_I[cut.code_T[kept_T]]].double()
    sums_AU = torch.zeros(len(lifts_AUQ), users_U.numel(), dtype=torch.float64).index_add_(1, row_T[kept_T], wanted_AT)
    wanted_A = (sums_AU / torch.bincount(row_T[kept_T], minlength=users_U.numel())).mean(dim=1)
    log_mass_UQ = log_mass_BQ[users_U]
    weights_A = torch.zeros(len(lifts_AUQ), dtype=torch.float64)
    for _ in range(NEWTON_STEPS):
        shares_UQ = _logits(log_mass_UQ, lifts_AUQ, weights_A).softmax(dim=1)
        means_AU = torch.einsum("uq,auq->au", shares_UQ, lifts_AUQ).double()
        gradient_A = wanted_A - means_AU.mean(dim=1) - RIDGE * weights_A
        second_AA = torch.einsum("uq,auq,buq->ab", shares_UQ, lifts_AUQ, lifts_AUQ).double() / users_U.numel()
        curve_AA = second_AA - means_AU @ means_AU.T / users_U.numel() + RIDGE * torch.eye(len(weights_A))
        step_A = torch.linalg.solve(curve_AA, gradient_A)
        weights_A = weights_A + step_A / max(1.0, float(step_A.norm()))
        if float(step_A.norm()) < 1e-6:
            break
    added_U = torch.logsumexp(_logits(log_mass_UQ, lifts_AUQ, weights_A), dim=1)  # zero without the lifts
    gain = float(weights_A @ wanted_A - added_U.double().mean() - RIDGE / 2 * weights_A.square().sum())
    return weights_A, gain


def _logits(log_mass_UQ: Tensor, lifts_AUQ: Tensor, weights_A: Tensor) -> Tensor:
    """Log of the mass of each kind with the lifts [U, Q]."""
    return torch.tensordot(weights_A.float(), lifts_AUQ, dims=1).add_(log_mass_UQ)
