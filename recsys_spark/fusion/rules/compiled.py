"""Rules as they are stored with a model: plain values in `rules.json`, their tensors in `rules.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys_spark.errors import UserError
from recsys_spark.json_files import read_object

SETTINGS, ITEMS, FORMAT = "rules.json", "rules.safetensors", 1
TEXT = "text"
"""The name of the vectors that come with the rules; other names are recommenders'."""
SECONDS_A_DAY = 86400


@dataclass(frozen=True)
class Window:
    """When a rule holds, in epoch seconds."""

    first: int | None = None
    end: int | None = None
    """Exclusive."""

    def holds(self, now: int) -> bool:
        """Does the rule hold at the moment `now`."""
        return (self.first is None or self.first <= now) and (self.end is None or now < self.end)


@dataclass(frozen=True)
class Cap:
    """At most so many items of each group in a list."""

    name: str
    at_most: int
    groups_I: Tensor
    """[I] int64: 1..G, or 0 for items that the cap does not count."""

    @cached_property
    def size(self) -> int:
        """Groups G."""
        return int(self.groups_I.max()) if self.groups_I.numel() else 0


@dataclass(frozen=True)
class Boost:
    """A score s of an item becomes s x factor (s / factor below 0) + addend."""

    name: str
    factor: float
    addend: float
    window: Window
    items: Tensor
    """[n] int64 codes."""


@dataclass(frozen=True)
class Pin:
    """An item at a place."""

    name: str
    code: int
    position: int
    """1, 2, 3, ..."""
    window: Window
    segment: str | None
    """Name of the segment that sees it; None for everybody."""


@dataclass(frozen=True)
class Segment:
    """Users by the events of their history, or by a list of users, and what they must not see."""

    name: str
    min_events: int | None = None
    max_events: int | None = None
    members: Tensor | None = None
    """[n] uint8: bit u % 8 of byte u // 8 says whether user index u is one; None where the segment is of events."""
    unknown: bool = False
    """Are users beyond `members`, and those without an index, in it."""
    forbidden_I: Tensor | None = None
    """[I] bool: items that its users do not see."""


@dataclass(frozen=True)
class ListRules:
    """All rules of a model, over the items of its vocabulary."""

    as_of: int
    """The moment of recommendation in epoch seconds, with which dates are compared."""
    seed: int
    available_I: Tensor
    """[I] bool: neither blocked nor out of stock, and within the price bounds."""
    first_seen_I: Tensor
    """[I] int64 epoch seconds of the item's first event."""
    interval_I: Tensor
    """[I] float32: median days between purchases, NaN where not known."""
    interval_share: float = 0.0
    new_days: int = 30
    min_new_share: float = 0.0
    caps: tuple[Cap, ...] = ()
    boosts: tuple[Boost, ...] = ()
    pins: tuple[Pin, ...] = ()
    """By position, then by name."""
    segments: tuple[Segment, ...] = ()
    diversity_weight: float = 0.0
    diversity_vectors: str = TEXT
    vectors_ID: Tensor | None = field(default=None, repr=False)
    """[I, D] float32, where `diversity_vectors` is TEXT; zeros for an item without one."""
    explore_share: float = 0.0
    explore_candidates: int = 50
    explore_first_rank: int = 1

    @property
    def picks(self) -> bool:
        """Does a list depend on more than the order of its items' scores."""
        shares = (self.min_new_share, self.diversity_weight, self.explore_share)
        return bool(self.caps or self.pins) or any(share > 0 for share in shares)

    def new_items(self, now: int) -> Tensor:
        """[I] bool: was the item first seen at most `new_days` before `now`."""
        return self.first_seen_I >= now - self.new_days * SECONDS_A_DAY

    def save(self, directory: Path) -> tuple[str, ...]:
        """Write both files into a directory; returns their names."""
        plain, tensors = _parts(self)
        content = json.dumps({"format": FORMAT, **plain}, indent=1, sort_keys=True)
        (directory / SETTINGS).write_text(content, encoding="utf-8")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / ITEMS)
        return SETTINGS, ITEMS

    @classmethod
    def load(cls, directory: Path) -> ListRules:
        """Read both files, whose hashes the caller has checked. Raises UserError where they are of another format."""
        try:
            plain = read_object(directory / SETTINGS)
            tensors = load_file(directory / ITEMS)
        except (OSError, ValueError, SafetensorError):
            raise UserError(f"model {directory}: {SETTINGS} or {ITEMS} is not readable; fuse again") from None
        if plain.pop("format", None) != FORMAT:
            raise UserError(f"model {directory}: {SETTINGS} is of another format; fuse again")
        try:
            return _whole(plain, tensors)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise UserError(f"model {directory}: {SETTINGS} and {ITEMS} do not fit; fuse again") from None


def _parts(rules: ListRules) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The plain values, and the tensors by names like `caps.0.groups_I`."""
    tensors: dict[str, Tensor] = {}

    def plain(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value
            return None
        if isinstance(value, dict):
            return {name: plain(each, f"{path}.{name}" if path else name) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each, f"{path}.{place}") for place, each in enumerate(value)]
        return value

    return plain(asdict(rules), ""), tensors


def _whole(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ListRules:
    """What `_parts` took apart."""

    def own(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: tensors[f"{prefix}{name}"] for name in values if f"{prefix}{name}" in tensors}
        windows = {name: Window(**value) for name, value in values.items() if name == "window"}
        return {**values, **windows, **found}

    kinds: dict[str, Any] = {"caps": Cap, "boosts": Boost, "pins": Pin, "segments": Segment}
    ruled: dict[str, Any] = {
        name: tuple(kind(**own(f"{name}.{place}.", entry)) for place, entry in enumerate(plain[name]))
        for name, kind in kinds.items()
    }
    return ListRules(**own("", {**plain, **ruled}))


def days_ago(day_seconds: Tensor, now: int) -> Tensor:
    """Days from each moment (epoch seconds) to `now`, float32."""
    return ((now - day_seconds).double() / SECONDS_A_DAY).to(torch.float32)
