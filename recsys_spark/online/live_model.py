"""The fused model at work on the states of the online store: lists, user vectors and similar items.

A list is a function of the model, the overlay, the history and the moment, which follows from the history and the
publication (`history.moment`); so the stream, the service and a replay make the same one, and the batch's too where the
user has had no event since. Legend: B users, I items, D dimensions, K list length.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch

from recsys_spark.errors import UserError
from recsys_spark.fusion.blended import CONTEXT
from recsys_spark.fusion.explain import ExplainedRows
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import Repeats
from recsys_spark.online.adjusted import learnable
from recsys_spark.online.history import moment
from recsys_spark.online.likeness import likeness
from recsys_spark.online.overlay import Overlay
from recsys_spark.online.store import ListRow, Publication, StoredList, UserState, Vector
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.recommenders.histories import SECONDS_A_DAY, RawHistory, batch_of_raw
from recsys_spark.recommenders.segments import SegmentCounts

BLOCK_BYTES = 1 << 28
"""Memory of a block of users' scores."""
Kind = Literal["personal", "segment", "trending", "popular"]
FOR_ALL: Mapping[str, Kind] = {"popularity": "popular", "trending": "trending", "segment_popularity": "segment"}
"""Recommenders that ask for no history."""


class LiveModel:
    """A publication's model with an overlay. Never changed; any number of threads may ask it."""

    def __init__(self, model: FusedModel, publication: Publication, overlay: Overlay | None = None) -> None:
        """`model` is as it was published. Raises UserError where the overlay does not fit it."""
        self.champion = model
        self.publication = publication
        self.overlay = overlay if overlay is not None else Overlay(publication.model)
        self.model = self.overlay.apply(model) if overlay is not None else model
        self._likeness = likeness(model)

    @classmethod
    def load(cls, publication: Publication, overlay: Overlay | None = None) -> LiveModel:
        """The model of a publication, every hash checked. Raises UserError where it is gone, changed or another one."""
        directory = Path(publication.model_path)
        if publication.manifest:
            if not (directory / MANIFEST).is_file():
                raise UserError(f"model {directory}: is gone; publish again (python -m recsys_spark.online publish)")
            if file_sha256(directory / MANIFEST) != publication.manifest:
                raise UserError(f"model {directory}: is not the one that was published; publish again")
        return cls(FusedModel.load(directory), publication, overlay)

    def with_overlay(self, overlay: Overlay) -> LiveModel:
        """The same model with another overlay in place of its own. Raises UserError where that does not fit."""
        live = copy.copy(self)
        live.overlay, live.model = overlay, overlay.apply(self.champion)
        return live

    @property
    def similar_by(self) -> str | None:
        """The recommender by which `similar` compares items; None where there is none."""
        return None if self._likeness is None else self._likeness.name

    def known(self, item_id: str) -> bool:
        """Has the model learned about the item."""
        return int(self.model.vocabulary.codes([item_id])[0]) >= 0

    def title(self, item_id: str) -> str:
        """The title of an item; its id where the model does not know it."""
        code = int(self.model.vocabulary.codes([item_id])[0])
        return self.model.vocabulary.title(code) if code >= 0 else item_id

    def lists(self, states: Sequence[UserState], k: int | None = None, repeats: str | None = None) -> list[StoredList]:
        """Explained lists of up to K, by default of the publication's length, in the order of the states."""
        length = k if k is not None else self.publication.k
        mode = cast(Repeats, repeats or self.publication.repeats)
        made: list[StoredList] = []
        for some, batch in self._blocks(states):
            rows = self.model.recommend(batch, length, mode)
            made += self._stored(some, batch, rows)
        return made

    def vectors(self, states: Sequence[UserState]) -> list[dict[str, Vector]]:
        """Of each state the user vector [D] float32 by recommender, of those that are a product of two sides.

        A recommender that has nothing to say of a user gives none. Online learning does not move them.
        """
        found: list[dict[str, Vector]] = []
        for some, batch in self._blocks(states):
            block: list[dict[str, Vector]] = [{} for _ in some]
            for name, recommender in self.champion.recommenders.items():
                sides = learnable(recommender)
                if sides is not None and sides.vectors_ID is not None:
                    users_BD, can_score_B = sides.users(batch)
                    for row in can_score_B.nonzero().flatten().tolist():
                        block[row][name] = users_BD[row].detach().numpy().astype(np.float32)
            found += block
        return found

    def similar(self, item_id: str, k: int) -> list[tuple[str, float]]:
        """Ids and likenesses of up to K items most like one by `similar_by`; best first, of equals the smaller code.

        Empty where the model does not know the item, or no recommender compares items.
        """
        code = int(self.model.vocabulary.codes([item_id])[0])
        if code < 0 or self._likeness is None:
            return []
        likeness_I = self._likeness.of(code)
        likeness_I[code] = -torch.inf
        best_I = torch.sort(likeness_I, descending=True, stable=True).indices[:k]
        best_I = best_I[likeness_I[best_I] > 0]
        names = self.model.vocabulary.ids_of(best_I.numpy()).to_pylist()
        return list(zip(names, likeness_I[best_I].tolist(), strict=True))

    def _blocks(self, states: Sequence[UserState]) -> Iterator[tuple[Sequence[UserState], UserBatch]]:
        """The states, as many at a time as fit into memory."""
        step = self.model.users_in_block(BLOCK_BYTES)
        for start in range(0, len(states), step):
            some = states[start : start + step]
            histories = [self._history(state) for state in some]
            yield some, batch_of_raw(histories, self.model.vocabulary, self.model.event_weights)

    def _history(self, state: UserState) -> RawHistory:
        """As the batch reads it: times and ages in whole seconds."""
        now = moment(state, self.publication.as_of)
        _, items, types, weights, times = zip(*state.history, strict=True) if state.history else ((),) * 5
        return RawHistory(
            item_ids=items,
            event_types=types,
            ages_days=((now - np.floor(np.array(times, dtype=np.float64))) / SECONDS_A_DAY).tolist(),
            weights=weights,
            user_index=state.user_index,
        )

    def _stored(self, states: Sequence[UserState], batch: UserBatch, rows: ExplainedRows) -> list[StoredList]:
        listed: list[list[ListRow]] = [[] for _ in states]
        codes = self.model.vocabulary.ids_of(rows.items).to_pylist()
        columns = (rows.users.tolist(), rows.ranks.tolist(), codes, rows.scores.tolist(), rows.reasons)
        for user, rank, item, score, reason, parts in zip(*columns, rows.parts.tolist(), strict=True):
            components = {name: part for name, part in zip(rows.names, parts, strict=True) if part == part}
            listed[user].append(ListRow(rank, item, score, reason, components))
        segments = self._in_segments(batch)
        made_at = time.time()
        return [
            StoredList(
                rows=tuple(own),
                model=self.publication.model,
                publication=self.publication.number,
                parameters=self.overlay.version,
                events=state.events,
                made_at=made_at,
                source="stream",
                kind=kind_of((name for row in own for name in row.components), in_segment),
            )
            for state, own, in_segment in zip(states, listed, segments, strict=True)
        ]

    def _in_segments(self, batch: UserBatch) -> list[bool]:
        """[B] does popularity by segment know a segment of the user."""
        inside_B = torch.zeros(batch.size, dtype=torch.bool)
        for recommender in self.champion.recommenders.values():
            if isinstance(recommender, SegmentCounts):
                inside_B |= recommender.segmenter.of(batch) > 0
        return inside_B.tolist()


def kind_of(names: Iterable[str], in_segment: bool = True) -> Kind:
    """Whom a list is for, by the components that took part in it: the user, if one of them asks for a history."""
    told = set(names) - {CONTEXT}
    if told - FOR_ALL.keys():
        return "personal"
    if in_segment and "segment_popularity" in told:
        return "segment"
    return "trending" if "trending" in told else "popular"
