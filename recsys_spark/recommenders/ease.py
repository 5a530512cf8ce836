"""EASE's scorer: r_ui = sum over the user's items j of h_uj W_ji, with a dense W (Steck 2019).

h_uj as in `item_item`. Letters as in `batch`; I' is the number of items that W covers, T of the tiles it is kept in.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle
from recsys_spark.recommenders.decayed import HistoryItems, decayed_items
from recsys_spark.recommenders.forms import Columns, Form, Matrix, RunningMoments
from recsys_spark.recommenders.item_item import MOST_WEIGHT

TILE = 256
"""Columns of W that stand together: a tile of it is read for all users before the next one."""
TOGETHER = 256
"""Rows of users and tiles that one call makes at least, where there are so many: of few users the calls cost more than
reading tile by tile saves."""
DENSE_SHARE = 0.1
"""Share of filled cells in the batch's [B, I'] histories above which a dense product is the quicker one."""


class DenseItems(Recommender):
    """Item-item with a dense W over the covered items (EASE).

    Items that are not covered score 0, the value that the regression gives to an item nobody had; histories count
    only by their covered items.
    """

    kind: ClassVar[str] = "ease"

    def __init__(self, name: str, num_items: int, covered: Tensor, weights: Tensor, half_life_days: float) -> None:
        """`covered` [I'] int64 ascending codes; `weights` W, W[j, i] the term of history item j, float32.

        W is [I', I'], or in tiles [T, I', TILE] as `tiled` makes them: so it is kept and stored.
        """
        super().__init__(name, num_items)
        self.covered = covered
        self.tiles = weights if weights.dim() == 3 else tiled(weights)
        self.half_life_days = half_life_days
        self.place_of = torch.full((num_items,), -1, dtype=torch.int64)
        self.place_of[covered] = torch.arange(covered.numel())

    def score(self, batch: UserBatch) -> Scores:
        """Scores of all items; users without a covered item cannot be scored."""
        history = self._history(batch)
        scores_BC, _ = self._product(history, batch.size)
        if self.covered.numel() == self.num_items:
            return Scores(scores_BC, history.known)
        scores = torch.zeros(batch.size, self.num_items)
        scores[:, self.covered] = scores_BC
        return Scores(scores=scores, can_score=history.known)

    def form(self, batch: UserBatch) -> Form:
        """The covered columns, with their moments."""
        history = self._history(batch)
        scores_BC, moments = self._product(history, batch.size)
        over_all = moments.over(self.num_items)
        if self.covered.numel() == self.num_items:
            return Matrix(scores_BC, history.known, over_all)
        return Columns(scores_BC, self.covered, self.num_items, history.known, over_all)

    def can_score(self, batch: UserBatch) -> Tensor:
        """[B] bool: has the user an item that W covers."""
        return self._history(batch).known

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Scores of the given items, from the weights between them and the history alone."""
        scores = torch.zeros(items_BK.shape)
        for user, _, terms in self._terms(batch, items_BK):
            scores[user] = terms.sum(0)
        return scores

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """Kind `bought_with`: the history item with the largest positive term h_uj W_ji; of equals the smaller code.

        The terms add up to the score, so an item's share is its term over the score: above 1 where others speak against
        the pair.
        """
        items, values = torch.full_like(items_BK, -1), torch.full(items_BK.shape, torch.nan)
        shares = values.clone()
        for user, history, terms in self._terms(batch, items_BK):
            largest, place = terms.max(0)
            items[user] = torch.where(largest > 0, history[place], -1)
            shares[user] = torch.where(largest > 0, largest / terms.sum(0).abs(), torch.nan)
        return Evidence("bought_with", items, values, shares=shares.masked_fill(shares.isinf(), torch.nan))

    def _history(self, batch: UserBatch) -> HistoryItems:
        return batch.once((self, "history"), lambda: self._read(batch))

    def _read(self, batch: UserBatch) -> HistoryItems:
        history = decayed_items(batch, self.num_items, self.half_life_days, MOST_WEIGHT)
        return history.keep(self.place_of[history.items] >= 0)

    def _product(self, history: HistoryItems, size: int) -> tuple[Tensor, RunningMoments]:
        """H W [B, I'], tile by tile: dense where histories are long, else by the rows of W that are needed."""
        places, count = self.place_of[history.items], self.covered.numel()
        moments, scores, dense = RunningMoments(size), torch.empty(size, count), None
        if places.numel() > DENSE_SHARE * size * count:
            dense = torch.zeros(size, count)
            dense[history.users, places] = history.weights
        step = max(1, TOGETHER // max(1, size))
        for first, tiles in enumerate(self.tiles.split(step)):
            parts = _rows_added_up(tiles, places, history) if dense is None else dense @ tiles
            part = parts.transpose(0, 1).reshape(size, len(tiles) * TILE)
            moments.add(part)
            columns = scores[:, first * step * TILE : (first + 1) * step * TILE]
            columns.copy_(part[:, : columns.shape[1]])
        return scores, moments

    def _terms(self, batch: UserBatch, items_BK: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of each user with a covered item: (row, codes of its items [n], terms h_uj W_ji [n, K])."""
        history = self._history(batch)
        places_BK = self.place_of[items_BK]
        offsets = history.offsets.tolist()
        for user, (low, high) in enumerate(pairwise(offsets)):
            if low == high:
                continue
            own, wanted = history.items[low:high], places_BK[user]
            columns = wanted.clamp(min=0)[None]
            terms = self.tiles[columns // TILE, self.place_of[own][:, None], columns % TILE]
            yield user, own, terms * history.weights[low:high, None] * (wanted >= 0)

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        config = {
            "kind": self.kind,
            "name": self.name,
            "num_items": self.num_items,
            "half_life_days": self.half_life_days,
        }
        write_bundle(path, config, {"covered": self.covered, "tiles": self.tiles}, vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
        return cls(
            str(bundle.config["name"]),
            int(bundle.config["num_items"]),
            bundle.tensors["covered"],
            bundle.tensors["tiles"] if "tiles" in bundle.tensors else bundle.tensors["weights"],  # older ones
            float(bundle.config["half_life_days"]),
        )


def tiled(weights: Tensor) -> Tensor:
    """[T, I', TILE] the columns of W [I', I'] in tiles, zeros behind the last column."""
    count = len(weights)
    tiles = torch.zeros(-(-count // TILE), count, TILE)
    for place, tile in enumerate(tiles):
        part = weights[:, place * TILE : (place + 1) * TILE]
        tile[:, : part.shape[1]] = part
    return tiles


def _rows_added_up(tiles: Tensor, places: Tensor, history: HistoryItems) -> Tensor:
    """[T, B, TILE] of tiles [T, I', TILE]: each user's rows `places`, weighted and added up."""
    number, count, _ = tiles.shape
    tile_T1 = torch.arange(number)[:, None]
    offsets = (history.offsets[:-1] + tile_T1 * places.numel()).flatten()
    added = torch.nn.functional.embedding_bag(
        (places + tile_T1 * count).flatten(),
        tiles.reshape(number * count, TILE),
        torch.cat([offsets, torch.tensor([number * places.numel()])]),
        mode="sum",
        per_sample_weights=history.weights.repeat(number),
        include_last_offset=True,
    )
    return added.view(number, history.offsets.numel() - 1, TILE)
