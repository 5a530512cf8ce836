"""A trained network as a recommender: the user vector is computed from the history, the catalogue is scored with it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composed import make_scorer, make_user_encoder
from recsys_spark.models.composition import Composition
from recsys_spark.models.history_scorer import HistoryScorer
from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle

USER_BLOCK = 1024
"""Users whose histories are encoded at once."""


class NeuralRecommender(Recommender):
    """Encodes the last L items of a history and scores every item; users without history cannot be scored.

    State: the composition, item vectors [I + 1, D] (row 0 is padding), item biases [I], the user encoder's and the
    scorer's parameters, and the scorer's item side [I, D] where that differs from the vectors.
    """

    kind: ClassVar[str] = "neural"

    def __init__(self, name: str, composition: Composition, scorer: HistoryScorer) -> None:
        super().__init__(name, composition.num_items)
        self.composition = composition
        self._scorer = scorer
        scorer.user_encoder.eval()
        scorer.scorer.eval()

    def score(self, batch: UserBatch) -> Scores:
        """Scores [B, I]; NeuMF goes through the catalogue in tiles."""
        can_score_B = batch.lengths > 0
        if bool(can_score_B.all()) and batch.size:
            return Scores(self._scorer.matrix(self._users(batch, can_score_B)), can_score_B)
        scores_BI = torch.zeros(batch.size, self.num_items)
        if bool(can_score_B.any()):
            scores_BI[can_score_B] = self._scorer.matrix(self._users(batch, can_score_B))
        return Scores(scores_BI, can_score_B)

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Scores [B, K] at the given items alone."""
        can_score_B = batch.lengths > 0
        scores_BK = torch.zeros(items_BK.shape)
        if bool(can_score_B.any()):
            scores_BK[can_score_B] = self._scorer.pairs(self._users(batch, can_score_B), items_BK[can_score_B])
        return scores_BK

    @torch.no_grad()
    def evidence(self, batch: UserBatch, items_BK: Tensor) -> Evidence:
        """`similar`: of the last L items of the history the one whose vector has the largest cosine with the item's."""
        tokens_BL, _ = last_tokens(batch, self.composition.max_length)
        if tokens_BL.shape[1] == 0:
            return Evidence("similar", torch.full(items_BK.shape, -1), torch.full(items_BK.shape, torch.nan))
        history_BLD = F.normalize(self._scorer.vectors_ID[tokens_BL], dim=2)
        items_BKD = F.normalize(self._scorer.vectors_ID[items_BK + 1], dim=2)
        cosines_BKL = torch.einsum("bkd,bld->bkl", items_BKD, history_BLD)
        cosines_BKL = cosines_BKL.masked_fill((tokens_BL == 0)[:, None, :], -torch.inf)
        best_BK, places_BK = cosines_BKL.max(dim=2)
        codes_BK = torch.gather(tokens_BL, 1, places_BK) - 1  # all padding: every place holds token 0, code -1
        return Evidence("similar", codes_BK, torch.where(codes_BK >= 0, best_BK, torch.nan))

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        parts = {"user_encoder": self._scorer.user_encoder, "scorer": self._scorer.scorer}
        tensors = {
            f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()
        }
        tensors |= {"item_vectors": self._scorer.vectors_ID.detach(), "item_biases": self._scorer.biases_I.detach()}
        if self._scorer.scorer.projects_items:
            tensors["item_side"] = self._scorer.side_ID
        config = {"kind": self.kind, "name": self.name, "num_items": self.num_items}
        write_bundle(path, {**config, "composition": self.composition.as_dict()}, tensors, vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle; the tensors stay mapped from its file."""
        composition = Composition.from_dict(bundle.config["composition"])
        with torch.device("meta"):
            parts = {"user_encoder": make_user_encoder(composition), "scorer": make_scorer(composition)}
        for name, module in parts.items():
            _assign(module, {key: value for key, value in bundle.tensors.items() if key.startswith(f"{name}.")}, name)
        scorer = HistoryScorer(
            user_encoder=parts["user_encoder"],
            scorer=parts["scorer"],
            vectors_ID=bundle.tensors["item_vectors"],
            biases_I=bundle.tensors["item_biases"],
            side_ID=bundle.tensors.get("item_side"),
        )
        return cls(str(bundle.config["name"]), composition, scorer)

    def _users(self, batch: UserBatch, can_score_B: Tensor) -> Tensor:
        """User sides [b, D] of the users that can be scored."""
        tokens_BL, lengths_B = last_tokens(batch, self.composition.max_length)
        tokens_BL, lengths_B = tokens_BL[can_score_B], lengths_B[can_score_B]
        blocks = range(0, tokens_BL.shape[0], USER_BLOCK)
        return torch.cat(
            [self._scorer.users(tokens_BL[i : i + USER_BLOCK], lengths_B[i : i + USER_BLOCK]) for i in blocks]
        )


def last_tokens(batch: UserBatch, max_length: int) -> tuple[Tensor, Tensor]:
    """Tokens [B, L] (code + 1, left-aligned, 0 behind the end) of each user's last items, and their lengths [B].

    L is the longest kept history of the batch, at most `max_length`.
    """
    lengths_B = batch.lengths.clamp(max=max_length)
    width = int(lengths_B.max()) if lengths_B.numel() else 0
    if width == 0:
        return torch.zeros((batch.size, 0), dtype=torch.int64), lengths_B
    steps_L = torch.arange(width)
    places_BL = (batch.offsets[1:] - lengths_B)[:, None] + steps_L
    tokens_BL = batch.items[places_BL.clamp(max=batch.items.numel() - 1)] + 1
    return tokens_BL * (steps_L < lengths_B[:, None]), lengths_B


def _assign(module: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    module.load_state_dict({key.removeprefix(f"{prefix}."): value for key, value in tensors.items()}, assign=True)
