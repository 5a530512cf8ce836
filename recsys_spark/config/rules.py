"""The configuration of what the shop wants of its lists, besides that they are liked: business rules.

Named mappings (`caps`, `boosts`, `pins`, `segments`) hold rules under names of your own; docs/fusion.md shows each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import combinations
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from recsys_spark.config.allowed import LocalPath
from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section, Share

VECTOR_MODELS = ("als", "mfn", "gru", "lstm", "sasrec", "kim_cnn", "bert", "two_tower")
"""Recommenders that have a vector of each item."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Dated(Section):
    """A rule that holds from a day to a day, both included, UTC; open where one is not given."""

    model_config = ConfigDict(populate_by_name=True)
    first_day: date | None = Field(default=None, alias="from")
    """The first day on which it holds."""
    last_day: date | None = Field(default=None, alias="to")
    """The last day on which it holds."""

    @model_validator(mode="after")
    def _forward(self) -> Dated:
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise ValueError(f"to ({self.last_day}) is before from ({self.first_day})")
        return self

    def overlaps(self, other: Dated) -> bool:
        """Is there a day on which both hold."""
        starts = max(self.first_day or date.min, other.first_day or date.min)
        return starts <= min(self.last_day or date.max, other.last_day or date.max)


class Cap(Section):
    """At most so many items of one category or brand in a list."""

    by: Literal["category", "brand"] = "category"
    """What is counted."""
    values: tuple[str, ...] = ()
    """The categories or brands that it holds for, each counted apart; by default every one."""
    at_most: Positive
    """Items of each in a list."""


class Boost(Dated):
    """Raises or lowers the fused score of items; those that all given lists name are meant."""

    categories: tuple[str, ...] = ()
    """Items of these categories."""
    brands: tuple[str, ...] = ()
    """Items of these brands."""
    items: tuple[str, ...] = ()
    """These items, spelled as in the table items."""
    factor: PositiveFloat = 1.0
    """A score above 0 is multiplied by it, one below 0 divided, so that more than 1 always raises."""
    addend: Finite = 0.0
    """Added after the factor."""

    @model_validator(mode="after")
    def _does_something(self) -> Boost:
        if not (self.categories or self.brands or self.items):
            raise ValueError("names no categories, brands or items; give at least one")
        if self.factor == 1 and self.addend == 0:
            raise ValueError("changes nothing; give a factor other than 1 or an addend other than 0")
        return self


class Pin(Dated):
    """An item at a place of the list."""

    item: str
    """The item, spelled as in the table items."""
    position: Positive
    """Its rank."""
    segment: str | None = None
    """The segment whose users see it; by default everybody."""


class Segment(Section):
    """Users by how much they did, or by what is known of them; and the categories that they may see."""

    min_events: Annotated[int, Field(ge=0)] | None = None
    """Users with at least so many events in their history."""
    max_events: Annotated[int, Field(ge=0)] | None = None
    """Users with at most so many."""
    attribute: str | None = None
    """A column of `demographics`."""
    values: tuple[str, ...] = ()
    """The values of `attribute` that make a user one of the segment."""
    unknown: bool = False
    """Are users of whom the attribute is not known, strangers among them, in the segment: for what must be safe, say
    true."""
    only_categories: tuple[str, ...] = ()
    """Its users see items of these categories and no others; none where the category is not known."""
    never_categories: tuple[str, ...] = ()
    """Its users see no item of these."""

    @model_validator(mode="after")
    def _someone(self) -> Segment:
        if (self.attribute is None) != (not self.values):
            raise ValueError("attribute and values belong together; give both or neither")
        if self.attribute is None and self.min_events is None and self.max_events is None:
            raise ValueError("is everybody; give attribute and values, min_events or max_events")
        if self.min_events is not None and self.max_events is not None and self.max_events < self.min_events:
            raise ValueError(f"max_events ({self.max_events}) is less than min_events ({self.min_events})")
        if self.only_categories and self.never_categories:
            raise ValueError("give only_categories or never_categories, not both")
        return self


class Interval(Section):
    """Items that the user bought so lately that he hardly needs them again."""

    share: Annotated[float, Field(ge=0, le=10)] = 0.0
    """An item is left out until this share of its usual interval has passed since the user bought it last; 0 is off.
    The interval is the user's own median of the days between his purchases of the item, else the item's median among
    all users; where neither is known the item stays in."""
    min_gaps: Positive = 5
    """Intervals that an item's own median needs."""


class NewItems(Section):
    """Items that came lately."""

    days: Positive = 30
    """An item is new whose first event was at most so many days before the moment of recommendation."""
    min_share: Share = 0.0
    """The least share of a list that is new items, as far as there are some; 0 is off."""


class Diversity(Section):
    """Lists without items that are all alike, by maximal marginal relevance."""

    weight: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """What the likeness to items above counts against relevance, from 0 (off) to 1."""
    vectors: str = "text"
    """Whose item vectors tell what is alike: `text` (the vectors of fit_features) or a recommender of `models` that has
    item vectors."""


class Exploration(Section):
    """Places of each list that show new items by lot, so that it is learned whether they are liked."""

    share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of a list's places that are drawn; 0 is off."""
    candidates: Annotated[int, Field(gt=0, le=1000)] = 50
    """The new items of highest score among which is drawn, each with the same chance."""
    first_rank: Positive = 1
    """The highest place that may be drawn; the places too are drawn, from here to the list's end."""


class Rules(Section):
    """Business rules: what the shop wants of its lists. All are off by default.

    Items that are blocked, out of stock, outside the price bounds or not for the user's segment are in no list, pinned
    or drawn ones included. Where nothing is left of a list, it falls back on popularity under the same rules.
    """

    out_of_stock: tuple[str, ...] = ()
    """Ids of items that are not recommended while they stand here."""
    out_of_stock_file: LocalPath | None = None
    """A text file of further such ids, one a line, as the stock system exports it."""
    blocked_items: tuple[str, ...] = ()
    """Ids of items that are never recommended; models still learn from them, unlike `cleaning.blocked_items`."""
    blocked_items_file: LocalPath | None = None
    """A text file of further such ids, one a line."""
    min_price: NotNegative | None = None
    """Items of a lower price are not recommended. An item's price is the catalogue's, else the median of its events."""
    max_price: NotNegative | None = None
    """Items of a higher price are not recommended."""
    unpriced: Literal["keep", "drop"] = "keep"
    """What becomes of items without a known price where `min_price` or `max_price` is given."""
    interval: Interval = Interval()
    """Items that were bought a short while ago."""
    caps: dict[str, Cap] = {}
    """At most n items of a category or brand in a list."""
    boosts: dict[str, Boost] = {}
    """Items whose scores are raised or lowered."""
    pins: dict[str, Pin] = {}
    """Items at fixed places."""
    segments: dict[str, Segment] = {}
    """Groups of users, with the categories that are safe for them."""
    new_items: NewItems = NewItems()
    """Which items are new, and their least share."""
    diversity: Diversity = Diversity()
    """Lists without items that are all alike."""
    exploration: Exploration = Exploration()
    """Places that are drawn."""

    @property
    def on(self) -> bool:
        """Whether any rule is configured."""
        excluded = (self.out_of_stock, self.out_of_stock_file, self.blocked_items, self.blocked_items_file)
        shares = (self.interval.share, self.new_items.min_share, self.diversity.weight, self.exploration.share)
        bounds = (self.min_price, self.max_price)
        safe = [s for s in self.segments.values() if s.only_categories or s.never_categories]
        return any((*excluded, *shares, self.caps, self.boosts, self.pins, safe)) or bounds != (None, None)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are named."""
        return tuple(path for path in (self.out_of_stock_file, self.blocked_items_file) if path)

    @model_validator(mode="after")
    def _consistent(self) -> Rules:
        if self.min_price is not None and self.max_price is not None and self.max_price < self.min_price:
            raise ValueError(f"max_price ({self.max_price:g}) is less than min_price ({self.min_price:g})")
        for name, pin in self.pins.items():
            if pin.segment is not None and pin.segment not in self.segments:
                raise ValueError(f"pins.{name}.segment: {pin.segment} is not among segments {sorted(self.segments)}")
        for (one, first), (other, second) in combinations(self.pins.items(), 2):
            if (first.position, first.segment) == (second.position, second.segment) and first.overlaps(second):
                raise ValueError(f"pins {one} and {other} hold position {first.position} at the same time; move one")
        return self

    def check(self, k: int, models: Sequence[str], attributes: Sequence[str]) -> None:
        """Refuse what does not fit the rest of the configuration: the list's length, models, columns of demographics.

        Raises ValueError with one line.
        """
        for name, pin in self.pins.items():
            if pin.position > k:
                raise ValueError(f"rules.pins.{name}.position ({pin.position}) is beyond the list; fusion.k is {k}")
        if self.exploration.share and self.exploration.first_rank > k:
            raise ValueError(
                f"rules.exploration.first_rank ({self.exploration.first_rank}) is beyond the list; fusion.k is {k}"
            )
        vectors = self.diversity.vectors
        known = [name for name in VECTOR_MODELS if name in models]
        if self.diversity.weight and vectors != "text" and vectors not in known:
            raise ValueError(
                f"rules.diversity.vectors: {vectors} has no item vectors here; give one of {['text', *known]}"
            )
        for name, segment in self.segments.items():
            if segment.attribute is not None and segment.attribute not in attributes:
                raise ValueError(
                    f"rules.segments.{name}.attribute: {segment.attribute} is not among demographics.columns "
                    f"{sorted(attributes)}"
                )
