"""From the configured rules to what is stored with a model: names of categories, brands and items become codes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.config.rules import Boost as BoostSection
from recsys_spark.config.rules import Cap as CapSection
from recsys_spark.config.rules import Dated, Rules
from recsys_spark.config.rules import Segment as SegmentSection
from recsys_spark.errors import UserError
from recsys_spark.fusion.rules.compiled import Boost, Cap, ListRules, Pin, Segment, Window
from recsys_spark.recommenders.vocabulary import Vocabulary


class Names:
    """The categories or brands of items: a number for each name, whatever its letter case."""

    def __init__(self, kind: str, of_items: Sequence[str | None], everything: Sequence[str]) -> None:
        """`of_items` [I]: the name of each item of the vocabulary; `everything`: all names that the catalogue knows."""
        self.kind = kind
        self._shown = {_folded(name): name for name in everything}
        numbers = {name: place + 1 for place, name in enumerate(sorted(self._shown))}
        self.numbers = numbers
        self.of_items: npt.NDArray[np.int64] = np.array(
            [numbers.get(_folded(name), 0) if name else 0 for name in of_items], dtype=np.int64
        )
        """[I] number of each item's name, 0 where it has none."""

    def number(self, name: str, where: str) -> int:
        """The number of a name. Raises UserError where no item has it."""
        if _folded(name) not in self.numbers:
            near = get_close_matches(_folded(name), self.numbers, n=1)
            hint = f"; did you mean {self._shown[near[0]]!r}" if near else "; see the table items for those there are"
            raise UserError(f"{where}: no item has the {self.kind} {name!r}{hint}")
        return self.numbers[_folded(name)]

    def among(self, names: Sequence[str], where: str) -> npt.NDArray[np.bool_]:
        """[I] bool: has the item one of the names."""
        return np.isin(self.of_items, [self.number(name, where) for name in names])


@dataclass(frozen=True)
class ItemFacts:
    """What is known of the I items of a vocabulary, and of the whole catalogue."""

    vocabulary: Vocabulary
    categories: Names
    brands: Names
    prices: npt.NDArray[np.float64]
    """[I], NaN where none is known."""
    first_seen: npt.NDArray[np.int64]
    """[I] epoch seconds."""
    exists: Callable[[str], bool]
    """Does the catalogue know an item id, in the vocabulary or not."""


def compile_rules(
    rules: Rules,
    facts: ItemFacts,
    as_of: int,
    seed: int,
    out: Sequence[str],
    intervals: npt.NDArray[np.float32] | None = None,
    members: Mapping[str, Tensor] | None = None,
    vectors: Tensor | None = None,
) -> ListRules:
    """The rules over the vocabulary of `facts`.

    `out` holds the ids of blocked items and of those out of stock, `intervals` [I] the items' median days between
    purchases, `members` the users of the segments that are of an attribute, `vectors` [I, D] those of diversity `text`.
    Raises UserError with one line for a category, brand or item that the catalogue does not know.
    """
    size = facts.vocabulary.size
    unknown = np.full(size, np.nan, dtype=np.float32)
    return ListRules(
        as_of=as_of,
        seed=seed,
        available_I=torch.from_numpy(_available(rules, facts, out)),
        first_seen_I=torch.from_numpy(facts.first_seen),
        interval_I=torch.from_numpy(unknown if intervals is None else intervals),
        interval_share=rules.interval.share,
        new_days=rules.new_items.days,
        min_new_share=rules.new_items.min_share,
        caps=tuple(_cap(name, cap, facts) for name, cap in rules.caps.items()),
        boosts=tuple(_boost(name, boost, facts) for name, boost in rules.boosts.items()),
        pins=_pins(rules, facts),
        segments=tuple(_segment(name, each, facts, members or {}) for name, each in rules.segments.items()),
        diversity_weight=rules.diversity.weight,
        diversity_vectors=rules.diversity.vectors,
        vectors_ID=vectors,
        explore_share=rules.exploration.share,
        explore_candidates=rules.exploration.candidates,
        explore_first_rank=rules.exploration.first_rank,
    )


def _available(rules: Rules, facts: ItemFacts, out: Sequence[str]) -> npt.NDArray[np.bool_]:
    available = np.ones(facts.vocabulary.size, dtype=np.bool_)
    codes = facts.vocabulary.codes(out)
    available[codes[codes >= 0]] = False
    if rules.min_price is not None or rules.max_price is not None:
        low, high = rules.min_price or 0.0, np.inf if rules.max_price is None else rules.max_price
        priced = (facts.prices >= low) & (facts.prices <= high)
        available &= priced | (np.isnan(facts.prices) & (rules.unpriced == "keep"))
    return available


def _cap(name: str, cap: CapSection, facts: ItemFacts) -> Cap:
    names = facts.categories if cap.by == "category" else facts.brands
    groups = names.of_items
    if cap.values:
        groups = np.where(names.among(cap.values, f"rules.caps.{name}.values"), groups, 0)
    # Numbers without gaps: the groups are counted by their number.
    return Cap(name, cap.at_most, torch.from_numpy(np.unique(np.r_[0, groups], return_inverse=True)[1][1:].copy()))


def _boost(name: str, boost: BoostSection, facts: ItemFacts) -> Boost:
    where = f"rules.boosts.{name}"
    chosen = np.ones(facts.vocabulary.size, dtype=np.bool_)
    if boost.categories:
        chosen &= facts.categories.among(boost.categories, f"{where}.categories")
    if boost.brands:
        chosen &= facts.brands.among(boost.brands, f"{where}.brands")
    if boost.items:
        codes = np.array([_item(item, f"{where}.items", facts) for item in boost.items], dtype=np.int64)
        chosen &= np.isin(np.arange(facts.vocabulary.size), codes)
    return Boost(name, boost.factor, boost.addend, _window(boost), torch.from_numpy(np.flatnonzero(chosen)))


def _pins(rules: Rules, facts: ItemFacts) -> tuple[Pin, ...]:
    """By position, at one position those of a segment first; an item that this fit does not know yet has no pin."""
    pins = [
        Pin(name, _item(pin.item, f"rules.pins.{name}.item", facts), pin.position, _window(pin), pin.segment)
        for name, pin in rules.pins.items()
    ]
    known = [pin for pin in pins if pin.code >= 0]
    return tuple(sorted(known, key=lambda pin: (pin.position, pin.segment is None, pin.name)))


def _item(item: str, where: str, facts: ItemFacts) -> int:
    """The code of an item, -1 where this fit does not know it. Raises UserError where the catalogue does not either."""
    code = int(facts.vocabulary.codes([item])[0])
    if code < 0 and not facts.exists(item):
        raise UserError(f"{where}: there is no item {item!r} in the table items; check the id")
    return code


def _segment(name: str, segment: SegmentSection, facts: ItemFacts, members: Mapping[str, Tensor]) -> Segment:
    where = f"rules.segments.{name}"
    forbidden: npt.NDArray[np.bool_] | None = None
    if segment.only_categories:
        forbidden = ~facts.categories.among(segment.only_categories, f"{where}.only_categories")
    elif segment.never_categories:
        forbidden = facts.categories.among(segment.never_categories, f"{where}.never_categories")
    return Segment(
        name=name,
        min_events=segment.min_events,
        max_events=segment.max_events,
        members=members[name] if segment.attribute is not None else None,
        unknown=segment.unknown,
        forbidden_I=None if forbidden is None else torch.from_numpy(forbidden),
    )


def _window(rule: Dated) -> Window:
    first = None if rule.first_day is None else datetime.combine(rule.first_day, time(), tzinfo=UTC)
    end = None if rule.last_day is None else datetime.combine(rule.last_day, time(), tzinfo=UTC) + timedelta(days=1)
    return Window(None if first is None else int(first.timestamp()), None if end is None else int(end.timestamp()))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()
