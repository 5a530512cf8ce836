"""The configuration of what is kept and what is not."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from recsys_spark.config.allowed import LocalPath
from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section

Rule = Literal["keep", "reject"]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression that may match anywhere in a text; Java's, which runs it, is tried before any row is read."""


class ItemIds(Section):
    """One spelling of item ids, for events, catalogue and blocklists alike."""

    case: Literal["keep", "upper", "lower"] = "keep"
    """The letter case that item ids are brought to."""
    blanks: Literal["keep", "remove"] = "keep"
    """Whether blanks within item ids go; those around an id always go."""


class Outliers(Section):
    """Quantities and prices far from what is usual for their item; an item is judged by its own past.

    Usual is the median of the logarithms of what arrived in the `days` before the Monday of the event's week; far is
    more than `mads` deviations away, one being 1.4826 times the median absolute deviation.
    """

    quantity: bool = False
    """Whether quantities are judged."""
    price: bool = False
    """Whether prices are judged."""
    mads: PositiveFloat = 6.0
    """Deviations from the median beyond which a value is an outlier."""
    min_observations: Positive = 20
    """Values that an item must have in those days to be judged."""
    days: Annotated[int, Field(ge=7)] = 30
    """Days before the event's week whose arrivals say what is usual."""
    quantity_floor: PositiveFloat = 1.0
    """The least deviation, as a share: at 1.0 one deviation is at least a factor of 2, so that an item that was always
    bought singly may be bought by the dozen."""
    price_floor: PositiveFloat = 0.25
    """The same for prices: at 0.25 and 6 deviations, a price that never changed may change by a factor of 3.8."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The columns that are judged."""
        return tuple(kind for kind, on in (("quantity", self.quantity), ("price", self.price)) if on)


class Robots(Section):
    """Users who on one day did what no person does: all their events of that day are rejected.

    Each limit is off where it is null.
    """

    events_an_hour: Positive | None = None
    """Events in any hour of the day beyond which it was a robot."""
    distinct_items: Positive | None = None
    """Different items in a day beyond which it was a robot."""
    regularity: PositiveFloat | None = None
    """Coefficient of variation of the gaps between a day's events below which it was a robot: 0.1 is a clockwork."""
    min_events: Annotated[int, Field(ge=3)] = 50
    """Events that a day must have for its regularity to be judged."""

    @property
    def on(self) -> bool:
        """Whether any limit is set."""
        return any(limit is not None for limit in (self.events_an_hour, self.distinct_items, self.regularity))


class Cleaning(Section):
    """Rules by which rows are judged, each with its switch. A rejected row stands in quarantine with all its reasons.

    A required field that is missing, a time or number that cannot be read, and a row that does not fit its file's
    format are always reasons, and exact copies are always dropped.
    """

    earliest: date = date(1970, 1, 1)
    """Events of earlier days are rejected (`ancient_time`)."""
    future_hours: NotNegative = 0.0
    """Hours after the end of its day of arrival that an event may claim to be from (`future_time` beyond), where the
    day of arrival is known."""
    lateness_days: Annotated[int, Field(ge=0, le=3650)] = 3
    """Days after its event's day that a row may arrive (`too_late` beyond), where the day of arrival is known: a day is
    final so many days later."""
    unknown_types: Rule = "keep"
    """What becomes of event types that are not known: kept as `other`, or rejected (`unknown_event_type`)."""
    non_positive_quantity: Rule = "keep"
    """What becomes of quantities of zero or less (`non_positive_quantity`)."""
    max_quantity: PositiveFloat | None = None
    """The largest believable quantity, whatever its sign (`absurd_quantity` beyond)."""
    negative_price: Rule = "keep"
    """What becomes of prices below zero (`negative_price`)."""
    max_price: PositiveFloat | None = None
    """The largest believable price (`absurd_price` beyond)."""
    outliers: Outliers = Outliers()
    """Quantities and prices far from what is usual for the item (`outlier_quantity`, `outlier_price`)."""
    near_duplicate_seconds: PositiveFloat | None = None
    """An event that follows a kept one of the same user, item, type and day in less time is dropped as a duplicate."""
    robots: Robots = Robots()
    """Users who are no people (`robot`)."""
    returns: Literal["keep", "reject", "net"] = "keep"
    """What becomes of returns, which are purchases of a negative quantity and events of type `return`: kept as they
    are, rejected (`return`), or netted: each undoes the user's latest earlier purchases of the item, by quantity. A
    purchase that is wholly undone is rejected (`returned`), one partly undone keeps the rest; the return itself is
    rejected (`return`, or `unmatched_return` where there was nothing to undo)."""
    prompt_days: Annotated[int, Field(ge=0)] = 1
    """Rows that arrive at most so many days after their event's day take part in netting. A return then undoes
    purchases of the `lateness_days` less `prompt_days` days before it, so that a day is final when its lateness is
    over."""
    test_accounts: tuple[str, ...] = ()
    """User ids whose events are rejected (`test_account`)."""
    test_account_patterns: tuple[Pattern, ...] = ()
    """Regular expressions of user ids whose events are rejected (`test_account`), such as `^qa-`."""
    bad_encoding: Rule = "reject"
    """What becomes of rows with bytes that are no UTF-8 in a mapped text (`bad_encoding`)."""
    item_ids: ItemIds = ItemIds()
    """How item ids are spelled."""
    blocked_items: tuple[str, ...] = ()
    """Item ids that nothing is to be learned from: their events are rejected (`blocked_item`), and they are left out of
    the items."""
    blocked_items_file: LocalPath | None = None
    """A text file of further such ids, one a line."""
    forbidden_text: tuple[Pattern, ...] = ()
    """Regular expressions, such as `(?i)weapon`; where one matches an item's title, description, category or brand, the
    item is blocked (`forbidden_content`), and so is a search for a text that it matches."""
    catalog_conflicts: Literal["first", "last", "most_frequent"] = "first"
    """Which of an item's rows counts where the catalogue has several: the first or last by file and place, or the first
    of those with the most frequent title."""

    @model_validator(mode="after")
    def _consistent(self) -> Cleaning:
        if self.returns == "net" and self.prompt_days > self.lateness_days:
            raise ValueError(
                f"prompt_days ({self.prompt_days}) is more than lateness_days ({self.lateness_days}); "
                "make the lateness longer, or no return can be netted in time"
            )
        return self

    @property
    def days_early(self) -> int:
        """Days by which an event may lie after the day on which its row arrived."""
        return math.ceil(self.future_hours / 24)

    @property
    def return_days(self) -> int:
        """Days after a purchase during which a return can undo it: the reach of the verdict on a day; 0 where off."""
        return self.lateness_days - self.prompt_days if self.returns == "net" else 0
