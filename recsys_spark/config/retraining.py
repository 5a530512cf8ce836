"""When a night's run trains, and where training starts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section
from recsys_spark.monitoring.kinds import check_kinds

Part = Annotated[float, Field(gt=0, lt=1)]


class Retraining(Section):
    """Triggers of training in `run_pipeline`, and its start.

    Without any trigger every run trains. With one, a run in which none fires keeps the model that serves and makes its
    lists from the newest histories.
    """

    max_age_days: PositiveFloat | None = None
    """Train where the last training is so many days of data old, or older."""
    drift: tuple[str, ...] = ()
    """Kinds of the table `monitoring`, such as `features.price_psi`: train where one of them is at alert on the newest
    monitored day since the last training."""
    lost_accuracy: Part | None = None
    """Train where the lists that were live lost this share of the NDCG that is usual: the median of the last monitored
    days since the last training, at most seven and at least three."""
    new_items_share: Part | None = None
    """Train where at least this share of the items with events is not known to the last training."""
    min_age_days: NotNegative = 1.0
    """Whatever fires, a run trains only once the last training is so many days of data old, so that what stays bad is
    not trained on every night; `first`, `settings` and `earlier` do not wait."""
    warm_start: bool = False
    """Neural recommenders start from an earlier champion's parameters, grown by what is new, instead of a random draw.
    Each fit starts from the newest champion all of whose data ended by the fit's cut; without one, and where the
    network has other parts, all fits start cold. Needs `split.strategy` temporal."""
    warm_epochs: Positive | None = None
    """Most epochs of a fit that starts warm; by default those of the recommender."""

    @property
    def on(self) -> bool:
        """Is there a trigger."""
        return bool(self.drift) or any(
            limit is not None for limit in (self.max_age_days, self.lost_accuracy, self.new_items_share)
        )

    @model_validator(mode="after")
    def _in_order(self) -> Retraining:
        if self.max_age_days is not None and self.max_age_days < self.min_age_days:
            raise ValueError(f"max_age_days must be at least min_age_days ({self.min_age_days:g})")
        return self

    @field_validator("drift")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        check_kinds(kinds)
        return kinds
