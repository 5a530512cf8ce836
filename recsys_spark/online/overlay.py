"""What online learning and live counts change on a fused model, without touching its bundles.

Learned are the rows of items that were a target since the publication, and no others: T rows of D + 1 numbers for each
recommender that learns (D its width; biases alone where the score is no product), as many AdaGrad sums as two a row,
and a reservoir of at most R samples of D numbers. On disk and in the online store they are one block of safetensors,
which names the model that it belongs to and carries the sha256 of what it holds. An applied model shares everything
with its champion but the item sides that moved: [I, D + 1] numbers for each recommender that learned.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.json_files import parsed_object
from recsys_spark.online.adjusted import Floats, Ints, Moved, champion_of, learnable, moved_recommender
from recsys_spark.online.trending import LiveCounts, live_counts
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.counts import Counts

FORMAT = 1
Array = npt.NDArray[Any]
NO_CODES: Ints = np.zeros(0, dtype=np.int64)
PARTS = ("vectors", "biases", "vector_squares", "bias_squares")


@dataclass(frozen=True)
class Rows:
    """What one recommender learned of the T items of its overlay."""

    vectors: Floats
    """[T, D] added to the items' vectors; D is 0 where biases alone are learned."""
    biases: Floats
    """[T] added to the items' biases; zeros where there are none."""
    vector_squares: Floats
    """[T] AdaGrad's sums of squared gradients, the mean over a row."""
    bias_squares: Floats
    """[T] the same of the biases."""


@dataclass(frozen=True)
class Reservoir:
    """Samples that are learned from again, each seen one equally likely (algorithm R, Vitter 1985)."""

    items: Ints = field(default_factory=lambda: NO_CODES)
    """[R] codes of the targets."""
    users: Mapping[str, Floats] = field(default_factory=dict)
    """[R, E] the users' sides at the time, by recommender."""
    seen: int = 0
    """Samples that were offered so far."""


@dataclass(frozen=True)
class Overlay:
    """Changes to one model; immutable."""

    model: str
    """Content id of the model."""
    batch: int = -1
    """Id of the newest batch that was learned from."""
    version: int = 0
    """How many batches were learned from."""
    codes: Ints = field(default_factory=lambda: NO_CODES)
    """[T] codes of the items that were a target, ascending: the rows of every recommender that learns."""
    rows: Mapping[str, Rows] = field(default_factory=dict)
    reservoir: Reservoir = field(default_factory=Reservoir)
    counts: LiveCounts = field(default_factory=dict)
    """Live trending counts. The store keeps them apart from the parameters (`counts()`), and so they are not in
    `to_bytes`: see `with_counts`."""

    def with_counts(self, counts: LiveCounts) -> Overlay:
        """The overlay with these live counts in place of its own."""
        return replace(self, counts=dict(counts))

    def apply(self, model: FusedModel) -> FusedModel:
        """The model with the changes; the given one, whether it has changes already or not, stays as it is.

        A function of champion and overlay alone. Raises UserError where the parameters do not fit the model.
        """
        changed = copy.copy(model)
        own = {name: champion_of(recommender) for name, recommender in model.recommenders.items()}
        changed.recommenders = {name: self._applied(name, recommender, model) for name, recommender in own.items()}
        unknown = sorted(set(self.rows) - set(own))
        if unknown:
            raise UserError(f"online parameters of {unknown}: the model has none of them; start without parameters")
        return changed

    def _applied(self, name: str, champion: Recommender, model: FusedModel) -> Recommender:
        if isinstance(champion, Counts) and champion.reason == "trending":
            return live_counts(champion, self.counts, model.vocabulary)
        if name not in self.rows or not self.codes.size:
            return champion
        rows, own = self.rows[name], learnable(champion)
        fits = own is not None and rows.vectors.shape == (self.codes.size, own.width)
        if not fits or self.codes[-1] >= champion.num_items:
            raise UserError(f"online parameters of {name}: of other items or another width; start without parameters")
        moved = (torch.from_numpy(array.copy()) for array in (self.codes, rows.vectors, rows.biases))
        return moved_recommender(champion, Moved(*moved))

    def to_bytes(self) -> bytes:
        """The parameters as safetensors; the same parameters are the same bytes."""
        tensors: dict[str, Array] = {"codes": self.codes, "reservoir.items": self.reservoir.items}
        for name, rows in self.rows.items():
            tensors |= {f"rows.{name}.{part}": getattr(rows, part) for part in PARTS}
        tensors |= {f"reservoir.users.{name}": users for name, users in self.reservoir.users.items()}
        tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        told = {"format": FORMAT, "model": self.model, "batch": self.batch, "version": self.version}
        told |= {"seen": self.reservoir.seen}
        # One key: with several, safetensors writes them in any order.
        content = json.dumps({**told, "sha256": _sha256(told, tensors)}, sort_keys=True)
        return bytes(save(tensors, metadata={"overlay": content}))

    @classmethod
    def from_bytes(cls, data: bytes, model: str) -> Overlay:
        """The overlay of `to_bytes`, without counts.

        Raises UserError where the bytes are damaged, of another format, or of another model than that of the content id
        `model`.
        """
        try:
            header = parsed_object(data[8 : 8 + int.from_bytes(data[:8], "little")], "the header")
            told = parsed_object(header["__metadata__"]["overlay"], "the header")
            tensors = load(data)
            sha256 = told.pop("sha256")
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError("online parameters: not what online learning wrote; start without parameters") from None
        if told.get("format") != FORMAT or _sha256(told, tensors) != sha256:
            raise UserError("online parameters: changed since they were written, or of another format")
        if told["model"] != model:
            raise UserError(f"online parameters: of model {told['model']}, not of {model}; they cannot be applied")
        names = sorted(name.split(".")[1] for name in tensors if name.startswith("rows.") and name.endswith(".vectors"))
        users = {name: tensors[f"reservoir.users.{name}"] for name in names}
        return cls(
            model=model,
            batch=told["batch"],
            version=told["version"],
            codes=tensors["codes"],
            rows={name: Rows(*(tensors[f"rows.{name}.{part}"] for part in PARTS)) for name in names},
            reservoir=Reservoir(tensors["reservoir.items"], users, told["seen"]),
        )

    @classmethod
    def of_store(cls, model: str, parameters: bytes | None, counts: LiveCounts) -> Overlay:
        """The overlay of what an online store holds for a model: `parameters()[1]` and `counts()`."""
        learned = cls(model) if parameters is None else cls.from_bytes(parameters, model)
        return learned.with_counts(counts)


def _sha256(told: Mapping[str, object], tensors: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()
