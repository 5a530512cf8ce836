"""What the ways of fusing over segments and over candidates need to know."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from recsys_spark.config.section import NotNegative, Positive, Section

Candidates = Annotated[int, Field(ge=10, le=1000)]


class Segments(Section):
    """Users by the number of events in their history, each segment with weights of its own."""

    light: Positive
    """Users with fewer events are new."""
    heavy: Positive
    """Users with so many events or more are heavy, the others light."""
    min_users: Positive = 100
    """A segment with fewer users in the search takes the weights of all."""

    @model_validator(mode="after")
    def _in_order(self) -> Segments:
        if self.light >= self.heavy:
            raise ValueError("light must be less than heavy")
        return self


class Cascade(Section):
    """Cheap recommenders retrieve, and all score what these retrieved."""

    retrieve: tuple[str, ...] | None = None
    """Recommenders that score the whole catalogue; by default those among `models` that cost little: popularity,
    trending, segment_popularity, repurchase, item_knn, content_knn, ease and als, or all where it has none of them."""
    candidates: Candidates = 300
    """Best items, and best items without repeats, that each of them retrieves."""


class Stacked(Section):
    """LightGBM's LambdaRank over the components' best items."""

    candidates: Candidates = 100
    """Best items, and best items without repeats, of each component that are ranked."""
    users: Positive = 2000
    """Seeded valid users on whom the trees are trained; times `candidates` and `moments` plus `own_moments` at most
    400,000: the driver holds the table."""
    moments: Annotated[int, Field(ge=1, le=7)] = 1
    """Moments of the valid window from which users are looked at: 1 is its start, further ones divide it evenly; each
    costs as much time as the first."""
    own_moments: Annotated[int, Field(ge=0, le=7)] = 1
    """Moments of each user's own at which he is looked at besides: just after something that he did in the valid
    window, with his next order to be foretold, as when lists follow live events. Each costs as much time as the
    window's start; there are none where the split is not temporal."""
    num_trees: Annotated[int, Field(ge=10, le=2000)] = 200
    """At most so many trees in all. Cross-validation finds how many a booster has, and where these are at most half,
    boosters of other seeds are added to it."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Step of each tree."""
    num_leaves: Annotated[int, Field(ge=2, le=1024)] = 15
    """Leaves of a tree."""
    min_rows_in_leaf: Positive = 50
    """Candidates that a leaf holds at least."""
    feature_share: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of the features that a tree may use."""
    l2: NotNegative = 10.0
    """Penalty of the leaves' values."""
    folds: Annotated[int, Field(ge=2, le=20)] = 3
    """Parts of the users in the cross-validation."""

    @model_validator(mode="after")
    def _fits_the_driver(self) -> Stacked:
        if self.users * self.candidates * (self.moments + self.own_moments) > 400_000:
            raise ValueError(
                "users x candidates x (moments + own_moments) must be at most 400,000: the driver holds the table"
            )
        return self
