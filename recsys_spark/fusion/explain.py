"""Why each item of a list is in it: the components' parts of its score, and the reason of the one that weighs most.

Components are asked for evidence in the order of their parts, each for the pairs alone in which all before it had
nothing to say, since evidence of a network costs encodings.

Legend: B users, K list length, M components, R rows (B lists of up to K items, laid end to end).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.fusion.blended import Blend
from recsys_spark.fusion.reasons import WITHOUT_ITEM, reason_text
from recsys_spark.recommenders.base import Evidence, Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.vocabulary import Vocabulary


@dataclass(frozen=True)
class Ranked:
    """The lists of a block of users."""

    items: Tensor
    """[B, K] int64 codes, best first; -1 past the end of a list."""
    scores: Tensor
    """[B, K] float32."""


@dataclass(frozen=True)
class ExplainedRows:
    """The rows of a block's lists, in the order of users and ranks."""

    users: npt.NDArray[np.int64]
    """[R] row 0..B-1 of the user."""
    ranks: npt.NDArray[np.int32]
    """[R] 1, 2, 3, ..."""
    items: npt.NDArray[np.int64]
    """[R] item codes."""
    scores: npt.NDArray[np.float32]
    """[R] fused scores."""
    names: tuple[str, ...]
    """The M components."""
    parts: npt.NDArray[np.float32]
    """[R, M] each component's part of the score: a row adds up to it; NaN where the component took no part."""
    reasons: list[str]
    """[R] in words."""
    speakers: npt.NDArray[np.int64]
    """[R] place in `names` of the component whose reason it is, -1 for the general one."""
    evidence: npt.NDArray[np.int64]
    """[R] code of the item of the history that the reason rests on, -1 where there is none."""
    shares: npt.NDArray[np.float32]
    """[R] `Evidence.shares`: by what share of its size the speaking component's own score falls without that item."""
    propensities: npt.NDArray[np.float64] | None = None
    """[R] probability that this item stands at this rank, where rules made the lists."""

    @property
    def size(self) -> int:
        """Rows R."""
        return len(self.reasons)


def explain(
    recommenders: Mapping[str, Recommender],
    vocabulary: Vocabulary,
    fallback: Recommender | None,
    batch: UserBatch,
    result: Blend,
    ranked: Ranked,
) -> ExplainedRows:
    """Parts and reasons of every row of the lists."""
    present = (ranked.items >= 0).numpy()
    items_BK = ranked.items.clamp_min(0)
    names, parts_BKM = list(result.names), result.parts(recommenders, batch, items_BK)
    voices = dict(recommenders)
    unserved_B = result.weights.sum(dim=1) == 0
    if fallback is not None and bool(unserved_B.any()):
        names, parts_BKM = _with_fallback(names, parts_BKM, fallback.name, unserved_B, ranked.scores)
        voices[fallback.name] = fallback
    spoken = _asked(voices, names, batch, items_BK, parts_BKM, ranked.items >= 0)
    users, places = np.nonzero(present)
    who = spoken.proof_BK.numpy()[present].tolist()
    details = [
        spoken.proofs[proof].detail(user, place) if proof >= 0 else ""
        for proof, user, place in zip(who, users.tolist(), places.tolist(), strict=True)
    ]
    kinds = np.array([*(proof.kind for proof in spoken.proofs), "general"])[who]  # -1 is the last
    evidence, values = spoken.items_BK.numpy()[present], spoken.values_BK.numpy()[present]
    return ExplainedRows(
        users=users.astype(np.int64),
        ranks=(places + 1).astype(np.int32),
        items=ranked.items.numpy()[present],
        scores=ranked.scores.numpy()[present],
        names=tuple(names),
        parts=parts_BKM.numpy()[present],
        reasons=_texts(kinds, evidence, values, details, vocabulary),
        speakers=spoken.main_BK.numpy()[present],
        evidence=evidence,
        shares=spoken.shares_BK.numpy()[present],
    )


@dataclass(frozen=True)
class Spoken:
    """Who says why of each pair, and what."""

    proofs: list[Evidence]
    """All evidence that was given."""
    proof_BK: Tensor
    """[B, K] place in `proofs` of the pair's, -1 where nobody spoke."""
    main_BK: Tensor
    """[B, K] place of the component that spoke, -1 where nobody did."""
    items_BK: Tensor
    """[B, K] int64 code of the evidence item, or -1."""
    values_BK: Tensor
    """[B, K] float32, NaN where there is no number."""
    shares_BK: Tensor
    """[B, K] float32, NaN where there is no share."""


def _asked(
    recommenders: Mapping[str, Recommender],
    names: Sequence[str],
    batch: UserBatch,
    items_BK: Tensor,
    parts_BKM: Tensor,
    pending_BK: Tensor,
) -> Spoken:
    """The evidence of the component with the largest part among those that have something to say of the pair.

    A component without an item to name explains nothing, however much it weighs; popularity needs none.
    """
    nobody_BK = torch.full_like(items_BK, -1)
    nothing_BK = torch.full(items_BK.shape, torch.nan)
    spoken = Spoken([], nobody_BK, nobody_BK.clone(), nobody_BK.clone(), nothing_BK, nothing_BK.clone())
    parts_BKM = parts_BKM.masked_fill(parts_BKM.isnan(), -torch.inf)
    parts_BKM[:, :, [name not in recommenders for name in names]] = -torch.inf
    for _ in names:
        largest_BK, best_BK = parts_BKM.max(dim=2)
        pending_BK = pending_BK & (largest_BK > -torch.inf)
        for place in best_BK[pending_BK].unique().tolist():
            wanted_BK = pending_BK & (best_BK == place)
            proof = recommenders[names[place]].evidence(batch, items_BK, wanted_BK)
            speaks_BK = wanted_BK & _speaks(proof)
            spoken.proof_BK[speaks_BK] = len(spoken.proofs)
            spoken.proofs.append(proof)
            spoken.main_BK[speaks_BK] = place
            spoken.items_BK[speaks_BK] = proof.items[speaks_BK]
            spoken.values_BK[speaks_BK] = proof.values[speaks_BK]
            if proof.shares is not None:
                spoken.shares_BK[speaks_BK] = proof.shares[speaks_BK]
            pending_BK = pending_BK & ~speaks_BK
            parts_BKM[:, :, place].masked_fill_(wanted_BK, -torch.inf)
    return spoken


def _speaks(proof: Evidence) -> Tensor:
    """[B, K] bool: has the evidence something to say of the pair."""
    return ~proof.values.isnan() if proof.kind in WITHOUT_ITEM else proof.items >= 0


def _with_fallback(
    names: list[str], parts_BKM: Tensor, fallback: str, unserved_B: Tensor, scores_BK: Tensor
) -> tuple[list[str], Tensor]:
    """The parts with those of users whom only the fallback served: their whole score is its part."""
    if fallback not in names:
        names = [*names, fallback]
        parts_BKM = torch.cat([parts_BKM, torch.full_like(parts_BKM[:, :, :1], torch.nan)], dim=2)
    parts_BKM[unserved_B, :, names.index(fallback)] = scores_BK[unserved_B]
    return names, parts_BKM


def _texts(
    kinds: npt.NDArray[np.str_],
    proofs: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
    details: Sequence[str],
    vocabulary: Vocabulary,
) -> list[str]:
    """Reasons of all rows; the same evidence is put into words once."""
    known: dict[tuple[str, int, float | None, str], str] = {}
    texts = []
    rows = zip(kinds.tolist(), proofs.tolist(), values.round().tolist(), details, strict=True)
    for kind, proof, value, detail in rows:
        key = (kind, proof, value if value == value else None, detail)  # NaN is no key: it differs from itself
        if key not in known:
            known[key] = reason_text(*key[:3], vocabulary, detail)
        texts.append(known[key])
    return texts
