"""What stacking knows of each item besides the scores: counted from the histories that the serving fit may see.

Item-sized; stored with the model as one safetensors file. Legend: I items.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys_spark.errors import UserError

FILE = "item_columns.safetensors"
KINDS = ("category", "brand", "title")
"""Columns of codes."""


@dataclass(frozen=True)
class Kind:
    """One way to sort items into S kinds, and what is known of the kinds whatever the user."""

    codes_I: Tensor
    """[I] int64, 0 for items that have none."""
    size: int
    """S."""
    new_share_I: Tensor
    """[I] each item's share in the new buyers that its kind had in the last 30 days; above 0."""
    taken_up_S: Tensor
    """[S] each kind's share in all new buyers of the last 60 days; above 0."""


@dataclass(frozen=True)
class ItemColumns:
    """Each [I], by code. Days are counted back from the fit's moment of recommendation; purchases are target events."""

    purchases: Tensor
    """float32, all of them."""
    purchases_7: Tensor
    """float32, those of the last 7 days."""
    purchases_30: Tensor
    """float32, of the last 30."""
    purchases_90: Tensor
    """float32, of the last 90."""
    buyers: Tensor
    """float32, users."""
    new_14: Tensor
    """float32, those of them who bought it in the last 14 days for the first time."""
    new_30: Tensor
    """float32, in the last 30."""
    new_60: Tensor
    """float32, in the last 60."""
    repeat_share: Tensor
    """float32, share of the buyers who bought it on two days or more; NaN without buyers."""
    interval: Tensor
    """float32, mean days between a user's purchase days of it; NaN where nobody bought it twice."""
    age: Tensor
    """float32, days since its first event."""
    idle: Tensor
    """float32, days since its last purchase; NaN where there is none."""
    price: Tensor
    """float32, NaN where there is none."""
    category: Tensor
    """int64 code, 0 for none."""
    brand: Tensor
    """int64 code, 0 for none."""
    title: Tensor
    """int64 code of the title that it shares with other items, 0 where it shares none."""

    @property
    def num_items(self) -> int:
        """Items I."""
        return int(self.purchases.numel())

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The columns of codes as kinds, by name: counted over the catalogue once."""
        return {name: self._kind(getattr(self, name)) for name in KINDS}

    def _kind(self, codes_I: Tensor) -> Kind:
        size = int(codes_I.max()) + 1 if codes_I.numel() else 1
        new_S = torch.bincount(codes_I, self.new_30, minlength=size)
        known_S = torch.bincount(codes_I, self.new_60, minlength=size) + 1.0
        return Kind(codes_I, size, (self.new_30 + 0.1) / (new_S[codes_I] + 1.0), known_S / known_S.sum())

    def save(self, path: Path) -> None:
        """Write the file."""
        save_file({field.name: getattr(self, field.name).contiguous() for field in fields(self)}, path)

    @classmethod
    def load(cls, path: Path) -> ItemColumns:
        """Read the file. Raises UserError where it is not what `save` wrote."""
        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError, TypeError) as error:
            raise UserError(f"{path}: not readable ({error}); run jobs/evaluate_models.py again") from None


AS_COUNTED = ("purchases", "purchases_7", "purchases_30", "purchases_90", "buyers", "new_14", "new_30", "new_60")
COUNTED = (*AS_COUNTED, "repeaters", "gaps", "gap_days")
"""Whole numbers that are summed over users; the first are columns as they are."""


def from_counts(
    counts: dict[str, np.ndarray], first_age: np.ndarray, last_age: np.ndarray, described: dict[str, np.ndarray]
) -> ItemColumns:
    """Columns from the COUNTED sums [I], and what else is known of each item.

    `first_age` and `last_age` [I] are the days since its first event and its last purchase, NaN for none; `described`
    holds `price`, `category`, `brand` and `title` as the fit described them.
    """

    def column(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32))

    def ratio(above: str, below: str) -> Tensor:
        divisor = counts[below].astype(np.float64)
        return column(np.where(divisor > 0, counts[above] / np.maximum(divisor, 1), np.nan))

    return ItemColumns(
        **{name: column(counts[name]) for name in AS_COUNTED},
        repeat_share=ratio("repeaters", "buyers"),
        interval=ratio("gap_days", "gaps"),
        age=column(first_age),
        idle=column(last_age),
        price=column(described["price"]),
        category=torch.from_numpy(described["category"].astype(np.int64)),
        brand=torch.from_numpy(described["brand"].astype(np.int64)),
        title=torch.from_numpy(described["title"].astype(np.int64)),
    )
