"""Why each item of a list is in it: the components' parts of its score, and the reason of the one that weighs most.

Legend: B users, K list length, M components, R rows (B lists of up to K items, laid end to end).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.fusion.blend import Blend
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
    names = [block.component.name for block in result.blocks]
    weights = result.weights[:, None, :]
    parts_BKM = torch.stack(
        [block.parts(recommenders[block.component.name], batch, items_BK) for block in result.blocks], dim=2
    )
    parts_BKM = torch.where(weights > 0, parts_BKM * weights, torch.nan)
    evidence = [recommenders[name].evidence(batch, items_BK) for name in names]
    # A component without an item to name explains nothing, however much it weighs; popularity needs none.
    speaks = torch.stack([_speaks(proof) for proof in evidence], dim=2)
    speaking = torch.where(speaks & ~parts_BKM.isnan(), parts_BKM, -torch.inf)
    main = torch.argmax(speaking, dim=2)
    silent = torch.isinf(speaking).all(dim=2)
    unserved = result.weights.sum(dim=1) == 0

    kinds = np.array([proof.kind for proof in evidence])[main.numpy()]
    kinds[silent.numpy()] = "general"
    kinds[unserved.numpy()] = "popular"
    proofs = torch.stack([proof.items for proof in evidence], dim=2).gather(2, main[:, :, None])[:, :, 0]
    values = torch.stack([proof.values for proof in evidence], dim=2).gather(2, main[:, :, None])[:, :, 0]
    if fallback is not None and bool(unserved.any()):
        values[unserved] = fallback.evidence(batch, items_BK).values[unserved]
    users, places = np.nonzero(present)
    speakers = main.masked_fill(silent, -1).numpy()[present].tolist()
    details = [
        evidence[speaker].detail(user, place) if speaker >= 0 else ""
        for speaker, user, place in zip(speakers, users.tolist(), places.tolist(), strict=True)
    ]
    parts = parts_BKM.numpy()[present]
    scores = ranked.scores.numpy()[present]
    if fallback is not None and bool(unserved.any()):
        names, parts = _with_fallback(names, parts, fallback.name, unserved.numpy()[users], scores)
    reasons = _texts(kinds[present], proofs.numpy()[present], values.numpy()[present], details, vocabulary)
    return ExplainedRows(
        users=users.astype(np.int64),
        ranks=(places + 1).astype(np.int32),
        items=ranked.items.numpy()[present],
        scores=scores,
        names=tuple(names),
        parts=parts,
        reasons=reasons,
    )


def _speaks(proof: Evidence) -> Tensor:
    """[B, K] bool: has the evidence something to say of the pair."""
    return ~proof.values.isnan() if proof.kind in WITHOUT_ITEM else proof.items >= 0


def _with_fallback(
    names: list[str],
    parts: npt.NDArray[np.float32],
    fallback: str,
    unserved: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float32],
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """The rows of users whom only the fallback served: their whole score is its part."""
    if fallback not in names:
        names = [*names, fallback]
        parts = np.concatenate([parts, np.full((len(parts), 1), np.nan, dtype=np.float32)], axis=1)
    parts[unserved, names.index(fallback)] = scores[unserved]
    return names, parts


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
