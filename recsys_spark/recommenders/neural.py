"""A trained network as a recommender: the user vector is computed from the history, the catalogue is scored with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.errors import UserError
from recsys_spark.models.affinity import Affinity, add_gathered
from recsys_spark.models.composed import make_scorer
from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.models.history_scorer import HistoryScorer
from recsys_spark.models.packed import History, Rows, last_places
from recsys_spark.models.user_side import UserSide
from recsys_spark.recommenders.attributed import AttributedProduct, KindMoments
from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle
from recsys_spark.recommenders.extended import PREFIX, new_items
from recsys_spark.recommenders.forms import Form, ItemSide, Product
from recsys_spark.recommenders.histories import SECONDS_A_DAY
from recsys_spark.recommenders.occlusion import most_lowering

USER_BLOCK = 1024
"""Users whose histories are encoded at once."""


class NeuralRecommender(Recommender):
    """Encodes the last L items of a history and scores every item.

    Users without history cannot be scored; where the user encoder is a table, those that it was not trained on.
    State: the composition, item vectors [I + 1, D] (row 0 is padding), item biases [I], the user side's and the
    scorer's parameters, the scorer's item side [I, D] where that differs from the vectors, where items are known by
    their content too, what `extended` needs, and where the composition has an affinity, that, which reads the whole
    history.
    """

    kind: ClassVar[str] = "neural"

    def __init__(
        self,
        name: str,
        composition: Composition,
        scorer: HistoryScorer,
        for_new_items: Mapping[str, Tensor] | None = None,
        affinity: Affinity | None = None,
    ) -> None:
        """`for_new_items` is what `extended.kept_for_new_items` gave."""
        super().__init__(name, composition.num_items)
        self.composition = composition
        self._scorer = scorer
        self._for_new_items = dict(for_new_items or {})
        self.affinity = affinity
        scorer.user_side.eval()
        scorer.scorer.eval()

    def with_affinity(self, affinity: Affinity | None) -> NeuralRecommender:
        """The network with an affinity beside it."""
        return NeuralRecommender(self.name, self.composition, self._scorer, self._for_new_items, affinity)

    def score(self, batch: UserBatch) -> Scores:
        """Scores [B, I]; NeuMF goes through the catalogue in tiles."""
        can_score_B = self._can_score(batch)
        if bool(can_score_B.all()) and batch.size:
            return Scores(self._matrix(batch, can_score_B), can_score_B)
        scores_BI = torch.zeros(batch.size, self.num_items)
        if bool(can_score_B.any()):
            scores_BI[can_score_B] = self._matrix(batch, can_score_B)
        return Scores(scores_BI, can_score_B)

    def _matrix(self, batch: UserBatch, can_score_B: Tensor) -> Tensor:
        """Scores [b, I] of the users that can be scored."""
        scores_BI = self._scorer.matrix(self._users(batch, can_score_B))
        if self.affinity is not None:
            add_gathered(scores_BI, self._table(self.affinity, batch)[can_score_B], self.affinity.kinds[1])
        return scores_BI

    def _table(self, affinity: Affinity, batch: UserBatch) -> Tensor:
        """[B, Q] what the histories say of each kind of items, once for a batch."""
        return batch.once((self, "table"), lambda: affinity.table(batch.items, batch.ages, batch.users, batch.size))

    def form(self, batch: UserBatch) -> Form:
        """A product of two sides, where the scorer is one."""
        if not self._scorer.scorer.factorises:
            return super().form(batch)
        can_score_B = self._can_score(batch)
        users_BD = torch.zeros(batch.size, self._side.items_ID.shape[1])
        if bool(can_score_B.any()):
            users_BD[can_score_B] = self._users(batch, can_score_B)
        own = Product(users_BD, self._side, can_score_B)
        if self.affinity is None:
            return own
        return AttributedProduct(own, self._table(self.affinity, batch), self._kind_moments)

    @cached_property
    def _side(self) -> ItemSide:
        return ItemSide(self._scorer.side_ID, self._scorer.biases_I)

    @cached_property
    def _kind_moments(self) -> KindMoments:
        assert self.affinity is not None
        return KindMoments(self._side, self.affinity.kinds[1])

    def can_score(self, batch: UserBatch) -> Tensor:
        """[B] bool, without encoding anybody."""
        return self._can_score(batch)

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Scores [B, K] at the given items alone."""
        can_score_B = self._can_score(batch)
        scores_BK = torch.zeros(items_BK.shape)
        if bool(can_score_B.any()):
            scores_BK[can_score_B] = self._scorer.pairs(self._users(batch, can_score_B), items_BK[can_score_B])
            if self.affinity is not None:
                gathered_BK = self._table(self.affinity, batch).gather(1, self.affinity.kinds[1][items_BK])
                scores_BK += gathered_BK * can_score_B[:, None]
        return scores_BK

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """`similar`: of the `left_out` items met last, the one whose leaving out of the history lowers the score most.

        Where none is left out, and where users are a table, so that histories say nothing of the score, it is the item
        most alike, without a share.
        """
        if self.composition.num_users or not self.left_out:
            return self._most_alike(batch, items_BK)
        asked_BK = torch.ones(items_BK.shape, dtype=torch.bool) if wanted_BK is None else wanted_BK
        named_BK, shares_BK = most_lowering(self, batch, items_BK, asked_BK, self.composition.max_length, self.left_out)
        return Evidence("similar", named_BK, torch.full(items_BK.shape, torch.nan), shares=shares_BK)

    @torch.no_grad()
    def _most_alike(self, batch: UserBatch, items_BK: Tensor) -> Evidence:
        """Of the last L items of the history the one whose vector has the largest cosine with the item's."""
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

    @property
    def item_vectors(self) -> Tensor:
        """The vectors [I, D]."""
        return self._scorer.vectors_ID[1:]

    def extended(self, content: Content) -> NeuralRecommender:
        """The recommender over its items and further ones that it knows by content alone; their codes come after.

        `content` describes the further items by the features of the same fit. Raises UserError where items are known by
        their ids alone.
        """
        vectors_CD, biases_C = new_items(self.composition, self._for_new_items, content)
        scorer = HistoryScorer(
            user_side=self._scorer.user_side,
            scorer=self._scorer.scorer,
            vectors_ID=torch.cat((self._scorer.vectors_ID, vectors_CD)),
            biases_I=torch.cat((self._scorer.biases_I, biases_C)),
        )
        composition = replace(self.composition, num_items=self.num_items + content.num_items)
        affinity = self.affinity.extended(content) if self.affinity is not None else None
        return NeuralRecommender(self.name, composition, scorer, self._for_new_items, affinity)

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        parts = {"user_side": self._scorer.user_side, "scorer": self._scorer.scorer}
        tensors = {
            f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()
        }
        tensors |= {"item_vectors": self._scorer.vectors_ID.detach(), "item_biases": self._scorer.biases_I.detach()}
        if self._scorer.scorer.projects_items:
            tensors["item_side"] = self._scorer.side_ID
        tensors |= self._for_new_items
        config: dict[str, Any] = {"kind": self.kind, "name": self.name, "num_items": self.num_items}
        if self.affinity is not None:
            tensors |= self.affinity.tensors()
            config["affinity"] = self.affinity.settings()
        write_bundle(path, {**config, "composition": self.composition.as_dict()}, tensors, vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle; the tensors stay mapped from its file."""
        composition = Composition.from_dict(bundle.config["composition"])
        with torch.device("meta"):
            parts = {"user_side": UserSide(composition), "scorer": make_scorer(composition)}
        for name, module in parts.items():
            _assign(module, dict(bundle.tensors), name, bundle.path)
        scorer = HistoryScorer(
            user_side=parts["user_side"],
            scorer=parts["scorer"],
            vectors_ID=bundle.tensors["item_vectors"],
            biases_I=bundle.tensors["item_biases"],
            side_ID=bundle.tensors.get("item_side"),
        )
        kept = {name: value for name, value in bundle.tensors.items() if name.startswith(PREFIX)}
        settings = bundle.config.get("affinity")
        affinity = Affinity.from_bundle(settings, bundle.tensors) if settings else None
        return cls(str(bundle.config["name"]), composition, scorer, kept, affinity)

    def _can_score(self, batch: UserBatch) -> Tensor:
        return self._scorer.user_side.known(batch.user_index, batch.lengths)

    def _users(self, batch: UserBatch, can_score_B: Tensor) -> Tensor:
        """User sides [b, D] of the users that can be scored, encoded once for a batch."""
        return batch.once((self, "users"), lambda: self._encoded(batch, can_score_B))

    def _encoded(self, batch: UserBatch, can_score_B: Tensor) -> Tensor:
        blocks = can_score_B.nonzero().squeeze(1).split(USER_BLOCK)
        return torch.cat([self._scorer.users(*packed_histories(batch, rows, self.composition)) for rows in blocks])


def packed_histories(batch: UserBatch, rows_B: Tensor, composition: Composition) -> tuple[Tensor, History]:
    """Tokens [P] of the last events of some users of a batch, packed, and what else is known of them."""
    if composition.num_users:
        # A table of users reads no events: one place each, whatever the history.
        assert batch.user_index is not None
        rows = Rows(torch.ones_like(rows_B))
        return torch.zeros_like(rows_B), History(rows, users_U=batch.user_index[rows_B], user_B=torch.arange(rows.size))
    index_P, rows = last_places(batch.offsets[rows_B], batch.lengths[rows_B], composition.max_length)
    ages_P = batch.ages[index_P].double()
    gaps_P = (F.pad(ages_P[:-1] - ages_P[1:], (1, 0)) * SECONDS_A_DAY).round()  # whole seconds, as in training
    return batch.items[index_P] + 1, History(rows, batch.event_types[index_P], gaps_P)


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


def _assign(module: nn.Module, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    own = {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}
    if own.keys() != module.state_dict().keys():
        raise UserError(f"bundle {path}: was written by another version of the networks; fit the model again")
    module.load_state_dict(own, assign=True)
