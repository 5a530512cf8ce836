"""Cascade: cheap recommenders retrieve candidates over the whole catalogue, and all components score only those.

Scores are normalised over a user's candidates. Legend: B users, I items, C candidates (padded), K list length, M
components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.fusion.blended import Blend
from recsys_spark.fusion.normalise import RANK_DEPTH, RANK_OFFSET, Normaliser
from recsys_spark.fusion.retrieval import Proposals, Retrieved
from recsys_spark.fusion.settings import Component
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.forms import Form

CHEAP = ("popularity", "trending", "segment_popularity", "repurchase", "item_knn", "content_knn", "ease", "als")
"""Recommenders that retrieve where `fusion.cascade.retrieve` names none: one sparse or narrow product a user."""


def retrievers(models: Sequence[str], named: Sequence[str] | None) -> tuple[str, ...]:
    """Who retrieves: those named, else the cheap ones among the models, else all of them."""
    return tuple(named or [name for name in models if name in CHEAP] or models)


def candidate_statistics(scores_BC: Tensor, present_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each row over its candidates, each [B, 1]."""
    count = present_BC.sum(dim=1, keepdim=True).clamp_min(1)
    mean = (scores_BC * present_BC).sum(dim=1, keepdim=True) / count
    square = ((scores_BC - mean).square() * present_BC).sum(dim=1, keepdim=True) / count
    return mean, square.sqrt().clamp_min(1e-12)


def log_sum_exp(standard_BC: Tensor, present_BC: Tensor, temperature: float) -> Tensor:
    """[B, 1] of z-scores divided by the temperature, over each row's candidates."""
    scaled = torch.where(present_BC, standard_BC / temperature, -torch.inf)
    return torch.logsumexp(scaled, dim=1, keepdim=True)


def normalised(scores_BC: Tensor, present_BC: Tensor, normaliser: Normaliser) -> Tensor:
    """[B, C] the scores normalised over each user's candidates; whatever in the padding."""
    if normaliser.method == "none":
        return scores_BC
    if normaliser.method == "rank":
        order = torch.argsort(torch.where(present_BC, scores_BC, -torch.inf), dim=1, descending=True, stable=True)
        places = torch.arange(1, order.shape[1] + 1).expand(order.shape)
        ranks = torch.empty_like(order).scatter_(1, order, places)
        return torch.where(ranks <= RANK_DEPTH, 1.0 / (RANK_OFFSET + ranks), 0.0)
    mean, deviation = candidate_statistics(scores_BC, present_BC)
    standard = (scores_BC - mean) / deviation
    if normaliser.method == "zscore":
        return standard
    temperature = normaliser.temperature
    return torch.exp(standard / temperature - log_sum_exp(standard, present_BC, temperature))


class CascadeSum:
    """The fusion of one block."""

    def __init__(
        self,
        components: Sequence[Component],
        retrieve: Sequence[str],
        proposals: Proposals,
        silent: Mapping[str, float | None],
        num_items: int,
    ) -> None:
        self._components = components
        self._retrieve = retrieve
        self._proposals = proposals
        self._silent = silent
        self._num_items = num_items
        self._can: dict[str, Tensor] = {}

    def wants(self, name: str) -> bool:
        """Those that retrieve: the others never score the whole catalogue."""
        return name in self._retrieve

    def take(self, name: str, form: Form) -> None:
        """Keep the best items of a retriever."""
        self._can[name] = form.can_score
        self._proposals.add(form.matrix_BI, form.can_score, self._silent[name])

    def finish(self, recommenders: Mapping[str, Recommender], batch: UserBatch) -> Blend:
        """Scores of the candidates, normalised over them and summed."""
        retrieved = self._proposals.union()
        present = retrieved.present_BC
        weights = torch.tensor([component.weight for component in self._components])
        can_BM = torch.stack([self._can_score(recommenders[c.name], batch) for c in self._components], dim=1)
        can_BM &= present.any(dim=1, keepdim=True)
        weights_BM = can_BM * weights
        weights_BM = weights_BM / weights_BM.sum(dim=1, keepdim=True).clamp_min(1e-12) * weights.sum()
        parts_BCM = torch.empty(*present.shape, len(self._components))
        for place, component in enumerate(self._components):
            scores_BC = recommenders[component.name].score_items(batch, retrieved.items_BC)
            part = normalised(scores_BC, present, component.normaliser)
            parts_BCM[:, :, place] = torch.where(weights_BM[:, None, place] > 0, part * weights_BM[:, None, place], 0)
        fused = retrieved.over_catalogue(parts_BCM.sum(dim=2), self._num_items)
        names = tuple(component.name for component in self._components)
        return Blend(fused, names, weights_BM, _Kept(retrieved, parts_BCM, weights_BM))

    def _can_score(self, recommender: Recommender, batch: UserBatch) -> Tensor:
        return self._can[recommender.name] if recommender.name in self._can else recommender.can_score(batch)


@dataclass(frozen=True)
class _Kept:
    retrieved: Retrieved
    parts_BCM: Tensor
    weights_BM: Tensor

    def parts(self, recommenders: Mapping[str, Recommender], batch: UserBatch, items_BK: Tensor) -> Tensor:
        """The parts of the candidates, kept since they were summed."""
        place_BK = self.retrieved.places_of(items_BK)
        index = place_BK.clamp_min(0)[:, :, None].expand(*place_BK.shape, self.parts_BCM.shape[2])
        taking = (place_BK >= 0)[:, :, None] & (self.weights_BM[:, None, :] > 0)
        return torch.where(taking, self.parts_BCM.gather(1, index), torch.nan)
