"""The configuration of how a challenger becomes champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section, Share


class Promotion(Section):
    """What a challenger must meet to become champion (jobs/promote_model.py); a gate whose bound is null is off."""

    auto: bool = False
    """Decide at the end of `run_pipeline` whether its challenger becomes champion."""
    approval: Literal["none", "required"] = "none"
    """`required`: a challenger that passes all gates waits until somebody runs the job with `--approve`."""
    incomparable: Literal["refuse", "skip"] = "refuse"
    """What becomes of a challenger where the champion cannot be measured on the same window without having seen it:
    refused, or the gates that need the champion's metrics are left out."""
    k: Positive | None = None
    """The K of the metrics that the gates look at, at most the largest of `evaluation.k`; by default the first one."""
    min_users: Positive | None = 30
    """Users with something relevant in the window that the comparison must rest on."""
    max_ndcg_loss: Share | None = 0.01
    """Share of the champion's NDCG that may be lost: the paired bootstrap interval of the difference must lie above
    it (non-inferiority)."""
    beat_popularity: bool = True
    """NDCG must be above that of popularity, the paired bootstrap interval of the difference above zero."""
    min_coverage: Share | None = 0.01
    """Share of the items that must stand in some list."""
    max_coverage_loss: Share | None = 0.2
    """Share of the champion's coverage that may be lost."""
    max_segment_loss: Share | None = 0.1
    """Share of the champion's NDCG that may be lost in any segment of users."""
    min_segment_users: Positive = 30
    """Evaluated users that a segment must have to be judged."""
    max_popularity_lift: NotNegative | None = None
    """How much more popular the listed items may be than those of the users' histories: 1.0 is twice as popular."""
    max_popularity_gain: NotNegative | None = 0.25
    """How much more popular the listed items may be than the champion's: 0.25 is a quarter more."""
    max_empty_lists: Share | None = 0.0
    """Share of users with history who may be left without any list."""
    max_short_lists: Share | None = 0.05
    """Share of users with history whose lists may be shorter than K."""
    max_latency_ms: PositiveFloat | None = 1000.0
    """Milliseconds in which 95 of 100 single users must be answered, on the machine that runs the job."""
    max_latency_ratio: PositiveFloat | None = 2.0
    """The same as a multiple of what the champion takes, measured beside it."""
    latency_users: Annotated[int, Field(gt=0, le=1000)] = 100
    """Seeded users whose histories are answered one at a time to measure that."""
    keep_champions: Positive = 3
    """Earlier champions that `--rollback` can go back to: their lists and what they were made from are kept."""
