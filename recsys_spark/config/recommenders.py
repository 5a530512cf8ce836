"""The settings of each recommender: what a user may turn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.neural import GRU, LSTM, MFN, Bert, KimCNN, Neural, SASRec, TwoTower
from recsys_spark.config.section import Positive, PositiveFloat, Section

Share = Annotated[float, Field(ge=0, lt=1)]
MOST_EASE_ITEMS = 20_000
"""EASE's inverse of more items takes the driver too much memory (twice 1.6 GB at 20,000) and time."""


class Popularity(Section):
    """Time-decayed number of events an item had."""

    half_life_days: PositiveFloat = 7.0
    """Days after which an event counts half."""


class Trending(Section):
    """How much faster than before an item sells: its recent count against the one that its long-run count foretells."""

    half_life_days: PositiveFloat = 7.0
    """Days after which an event counts half in the recent count."""
    long_half_life_days: PositiveFloat = 60.0
    """Days after which an event counts half in the long-run count; more than `half_life_days`."""
    smoothing: PositiveFloat = 10.0
    """Events of prior strength with which a rise is drawn to none: the more, the more events an item needs."""

    @model_validator(mode="after")
    def _longer(self) -> Trending:
        if self.long_half_life_days <= self.half_life_days:
            raise ValueError("long_half_life_days must be more than half_life_days")
        return self


class SegmentPopularity(Section):
    """Popularity among users like this one, drawn to that among all; the segment is read off the history."""

    segment_by: Literal["category", "activity"] = "category"
    """`category`: users by the category of the largest decayed weight in their history; `activity`: by how much they
    did lately."""
    max_categories: Annotated[int, Field(gt=0, le=200)] = 50
    """Categories that make a segment: those of most events; users of the others get what is popular among all."""
    activity_levels: Annotated[int, Field(gt=1, le=20)] = 4
    """Segments by activity, of about as many users each."""
    half_life_days: PositiveFloat = 7.0
    """Days after which an event counts half in what is popular."""
    history_half_life_days: PositiveFloat = 90.0
    """Days after which an event counts half in what a user's segment is."""
    smoothing: PositiveFloat = 100.0
    """Events of prior strength with which a segment's shares are drawn to those among all users."""


class Repurchase(Section):
    """Recency-frequency: what a user bought often and lately, weighed by how often the item is bought again."""

    half_lives_days: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (30.0, 60.0, 120.0, 240.0)
    """Half-lives tried for the decayed frequency; the best on the last part of the parameter window is kept."""
    smoothing: PositiveFloat = 10.0
    """Buyers of prior strength with which an item's share of repeat buyers is drawn to the mean."""


class ItemKNN(Section):
    """Item-based nearest neighbours on BM25-weighted co-occurrence."""

    neighbours: Positive = 100
    """Neighbours kept of each item."""
    max_history: Positive = 500
    """Distinct items of a user that take part: the most recent ones."""
    k1: PositiveFloat = 1.2
    """BM25 saturation of a repeated event."""
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    """BM25 length normalisation."""
    half_life_days: PositiveFloat = 90.0
    """Days after which an event of the history counts half at scoring."""


class ContentKNN(Section):
    """Item-based nearest neighbours by the words of title, description, category and brand (TF-IDF, cosine)."""

    neighbours: Positive = 100
    """Neighbours kept of each item."""
    max_word_items: Annotated[int, Field(gt=1, le=100_000)] = 5000
    """Words of more items are passed over: they tell little apart, and cost grows with the square of a word's items."""
    keywords: Annotated[int, Field(ge=0, le=20)] = 5
    """Keywords of an item among which words in common are looked for, to be named in the reason."""
    half_life_days: PositiveFloat = 90.0
    """Days after which an event of the history counts half at scoring."""


class ALS(Section):
    """Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren and Volinsky 2008; MLlib)."""

    rank: Annotated[int, Field(gt=0, le=1024)] = 64
    """Width of the factors."""
    reg: PositiveFloat = 0.1
    """Ridge penalty, times the number of a user's (or an item's) pairs, as MLlib has it."""
    alpha: PositiveFloat = 10.0
    """A pair of weight w counts 1 + alpha w times as much as one that never was."""
    iterations: Annotated[int, Field(gt=0, le=100)] = 10
    """Rounds of users, then items."""
    half_life_days: PositiveFloat | None = 90.0
    """Days after which an event of the history counts half at scoring; null: events weigh as they are."""


class Ease(Section):
    """EASE: closed-form item-item regression (Steck 2019) on the most popular items."""

    max_items: Annotated[int, Field(gt=1)] = 4000
    """Most popular items that take part, at most 20,000; cost grows with its cube, memory with its square (4 bytes
    each, twice). Items of a larger catalogue that do not take part are never recommended by it; item_knn and als cover
    a catalogue of any size."""
    l2: PositiveFloat = 200.0
    """Ridge penalty."""
    half_life_days: PositiveFloat = 90.0
    """Days after which an event of the history counts half at scoring."""

    @field_validator("max_items")
    @classmethod
    def _fits_the_driver(cls, value: int) -> int:
        if value > MOST_EASE_ITEMS:
            raise ValueError(
                f"ease takes at most {MOST_EASE_ITEMS:,} items; for a larger catalogue use item_knn or als, "
                "which cover all of it"
            )
        return value


class Recommenders(Section):
    """Settings of each recommender, by name."""

    popularity: Popularity = Popularity()
    """Popular items."""
    trending: Trending = Trending()
    """Items on the rise."""
    segment_popularity: SegmentPopularity = SegmentPopularity()
    """Popular among users alike."""
    repurchase: Repurchase = Repurchase()
    """What the user buys again."""
    item_knn: ItemKNN = ItemKNN()
    """Bought with."""
    content_knn: ContentKNN = ContentKNN()
    """Of similar words."""
    ease: Ease = Ease()
    """Item-item regression."""
    als: ALS = ALS()
    """Matrix factorisation."""
    mfn: MFN = MFN()
    """Matrix factorisation network."""
    gru: GRU = GRU()
    """Recurrent network."""
    lstm: LSTM = LSTM()
    """Recurrent network with a memory of its own."""
    sasrec: SASRec = SASRec()
    """Transformer."""
    kim_cnn: KimCNN = KimCNN()
    """Items by their words."""
    bert: Bert = Bert()
    """Items by a language model."""
    two_tower: TwoTower = TwoTower()
    """History and content."""


NEURAL = tuple(
    name
    for name, field in Recommenders.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Neural)
)
"""The recommenders that are trained by `training`."""
