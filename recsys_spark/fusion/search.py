"""Choosing weights and normalisers on the valid window, by NDCG@K over the small table of candidates.

Greedy forward selection (each further component must earn its place), then coordinate-wise refinement of what was
chosen. Legend: U users, C candidates of a user, M components, T temperatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recsys_spark.fusion.candidates import Candidates
from recsys_spark.fusion.normalise import RANK_DEPTH, RANK_OFFSET, Normaliser
from recsys_spark.fusion.settings import SEGMENTS, Component, FusionSettings, Repeats, Segments, segments_of

TEMPERATURES = (0.3, 1.0, 3.0, 10.0)
LAMBDAS = (0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 1.7, 3.0)
"""Weights that are tried, relative to what is already in the sum and free of each normaliser's scale."""
OPTIONS = (
    Normaliser("zscore"),
    Normaliser("none"),
    Normaliser("rank"),
    *(Normaliser("softmax", temperature) for temperature in TEMPERATURES),
)


@dataclass(frozen=True)
class SearchResult:
    """What the search found."""

    settings: FusionSettings
    ndcg: float
    """NDCG@K of the winner on the search's users."""
    singles: Mapping[str, float]
    """NDCG@K of each component alone."""


def search_weights(candidates: Candidates, repeats: Repeats, k: int, min_gain: float) -> SearchResult:
    """The weighted fusion with the best NDCG@K, where every component beyond the first adds at least `min_gain`."""
    table = _Table(candidates, repeats, k)
    singles = {name: table.ndcg(table.part(name, OPTIONS[0])) for name in candidates.names}
    first = max(singles, key=lambda name: (singles[name], name))
    chosen = {first: _Choice(OPTIONS[0], 1.0)}
    best = singles[first]
    while len(chosen) < len(candidates.names):
        step = max(table.additions(chosen), key=lambda trial: trial.ndcg)
        if step.ndcg < best + min_gain:
            break
        chosen[step.name] = step.choice
        best, chosen = table.refine(chosen, step.ndcg)
    components = tuple(
        Component(name, choice.weight / table.scale(name, choice.normaliser), choice.normaliser)
        for name, choice in chosen.items()
    )
    total = sum(component.weight for component in components)
    settled = tuple(Component(c.name, c.weight / total, c.normaliser) for c in components)
    return SearchResult(FusionSettings("weighted", settled), best, singles)


def search_segments(
    candidates: Candidates,
    repeats: Repeats,
    k: int,
    min_gain: float,
    for_all: FusionSettings,
    edges: tuple[int, int],
    min_users: int,
) -> FusionSettings | None:
    """The weighted fusion with weights of their own for segments of users; None where no segment gains by that.

    `edges` are the numbers of events from which users are light and heavy. A segment with fewer than `min_users` users
    with something to find, or whose own weights gain less than `min_gain` over those for all, keeps the latter.
    """
    assert candidates.events is not None, "the table tells the length of histories"
    places = segments_of(torch.from_numpy(candidates.events), *edges).numpy()
    own: dict[str, tuple[Component, ...]] = {}
    for place, name in enumerate(SEGMENTS):
        inside = candidates.of_users(places == place)
        found = inside.relevant_count - (inside.relevant_seen if repeats == "drop" else 0)
        if (found > 0).sum() < min_users:
            continue
        result = search_weights(inside, repeats, k, min_gain)
        if result.ndcg >= _Table(inside, repeats, k).worth(for_all.components) + min_gain:
            own[name] = result.settings.components
    return replace(for_all, segments=Segments(*edges, own)) if own else None


def recall(candidates: Candidates, repeats: Repeats, k: int, settings: FusionSettings) -> tuple[float, float]:
    """Share of the relevant items among the candidates, and among the best K of these by a weighted sum."""
    return _Table(candidates, repeats, k).recall(settings.components)


@dataclass(frozen=True)
class _Choice:
    normaliser: Normaliser
    weight: float
    """Free of the normaliser's scale."""


@dataclass(frozen=True)
class _Trial:
    name: str
    choice: _Choice
    ndcg: float


class _Table:
    """The candidates as tensors, with every normalised form computed once."""

    def __init__(self, candidates: Candidates, repeats: Repeats, k: int) -> None:
        drop = repeats == "drop"
        open_ = candidates.present & ~candidates.seen if drop else candidates.present
        counts = candidates.relevant_count - (candidates.relevant_seen if drop else 0)
        users = counts > 0
        self._candidates = candidates
        self._users = users
        self._closed = torch.from_numpy(~open_[users])
        self._relevant = torch.from_numpy((candidates.relevant & open_)[users].astype(np.float32))
        self._all = float(counts[users].sum())
        self._k = min(k, self._relevant.shape[1])
        discounts = 1.0 / torch.log2(torch.arange(2, k + 2, dtype=torch.float32))
        self._discounts = discounts[: self._k]
        self._ideal = torch.cumsum(discounts, 0)[torch.from_numpy(np.minimum(counts[users], k)) - 1]
        self._parts: dict[tuple[str, Normaliser], Tensor] = {}
        self._scales: dict[tuple[str, Normaliser], float] = {}

    def ndcg(self, fused_UC: Tensor) -> float:
        """Mean NDCG@K over the users with something to find."""
        top = torch.topk(fused_UC.masked_fill(self._closed, -torch.inf), self._k, dim=1).indices
        gains = (self._relevant.gather(1, top) * self._discounts).sum(dim=1)
        return float((gains / self._ideal).mean())

    def worth(self, components: Sequence[Component]) -> float:
        """NDCG@K of a weighted sum."""
        return self.ndcg(self._blended(components))

    def recall(self, components: Sequence[Component]) -> tuple[float, float]:
        """Relevant items among all candidates and among the best K, of all that are relevant."""
        fused_UC = self._blended(components).masked_fill(self._closed, -torch.inf)
        best = torch.topk(fused_UC, self._k, dim=1).indices
        found = (float(self._relevant.sum()), float(self._relevant.gather(1, best).sum()))
        return found[0] / self._all, found[1] / self._all

    def _blended(self, components: Sequence[Component]) -> Tensor:
        total = torch.zeros(self._closed.shape)
        sums = torch.zeros(len(total), 1)
        for component in components:
            can = torch.from_numpy(
                self._candidates.can_score[self._users, self._candidates.names.index(component.name)]
            )
            total += component.weight * self._normalised(component.name, component.normaliser)
            sums += component.weight * can[:, None]
        return total / sums.clamp_min(1e-12)

    def part(self, name: str, normaliser: Normaliser) -> Tensor:
        """[U, C] normalised scores, brought to the same scale for every normaliser."""
        key = (name, normaliser)
        if key not in self._parts:
            raw = self._normalised(name, normaliser)
            # The scale of a form is its spread over the candidates of an average user.
            spread = float(raw.masked_fill(self._closed, 0).std(dim=1).mean()) or 1.0
            self._scales[key] = spread
            self._parts[key] = raw / spread
        return self._parts[key]

    def scale(self, name: str, normaliser: Normaliser) -> float:
        """What `part` divided by."""
        self.part(name, normaliser)
        return self._scales[(name, normaliser)]

    def additions(self, chosen: Mapping[str, _Choice]) -> Iterator[_Trial]:
        """Every way of adding one component to the chosen ones."""
        base = self._sum(chosen)
        for name in self._candidates.names:
            if name not in chosen:
                yield from self._trials(name, base)

    def refine(self, chosen: dict[str, _Choice], best: float) -> tuple[float, dict[str, _Choice]]:
        """Set each chosen component anew while the others stand still, once around."""
        for name in list(chosen):
            others = {other: choice for other, choice in chosen.items() if other != name}
            trial = max(self._trials(name, self._sum(others)), key=lambda trial: trial.ndcg)
            if trial.ndcg > best:
                best = trial.ndcg
                chosen = {**chosen, name: trial.choice}
        return best, chosen

    def _trials(self, name: str, base: Tensor) -> Iterator[_Trial]:
        for normaliser in OPTIONS:
            part = self.part(name, normaliser)
            for weight in LAMBDAS:
                yield _Trial(name, _Choice(normaliser, weight), self.ndcg(base + weight * part))

    def _sum(self, chosen: Mapping[str, _Choice]) -> Tensor:
        total = torch.zeros(self._closed.shape)
        for name, choice in chosen.items():
            total = total + choice.weight * self.part(name, choice.normaliser)
        return total

    def _normalised(self, name: str, normaliser: Normaliser) -> Tensor:
        """The same numbers that `fusion.normalise` gives over the whole catalogue."""
        table, position = self._candidates, self._candidates.names.index(name)
        scores = torch.from_numpy(table.scores[self._users, :, position])
        can_score = torch.from_numpy(table.can_score[self._users, position])[:, None]
        if normaliser.method == "none":
            return scores * can_score
        if normaliser.method == "rank":
            # Candidates hold each component's best items, so to that depth ranks among them are ranks in the catalogue.
            present = torch.from_numpy(table.present[self._users])
            order = torch.argsort(scores.masked_fill(~present, -torch.inf), dim=1, descending=True, stable=True)
            ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order)) + 1
            return torch.where((ranks <= RANK_DEPTH) & can_score, 1.0 / (RANK_OFFSET + ranks), 0.0)
        mean = torch.from_numpy(table.mean[self._users, position])[:, None]
        deviation = torch.from_numpy(table.deviation[self._users, position])[:, None]
        standard = (scores - mean) / deviation
        if normaliser.method == "zscore":
            return standard * can_score
        at = TEMPERATURES.index(normaliser.temperature)
        sums = torch.from_numpy(table.log_sum_exp[self._users, position, at])[:, None]
        return torch.exp(standard / normaliser.temperature - sums) * can_score
