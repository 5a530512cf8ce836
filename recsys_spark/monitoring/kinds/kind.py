"""What a kind of measure is: how it is told, and from when on it is bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recsys_spark.monitoring.finding import Group

Bad = Literal["high", "low", "both"]
Form = Literal["number", "share", "times"]


@dataclass(frozen=True)
class Limit:
    """Values beyond these (not at them) are bad; None never is."""

    warn: float | None
    alert: float | None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of measure. Its words name no number that a limit could change."""

    group: Group
    name: str
    title: str
    """A few words for tables and plots, such as `Events of the day`."""
    sentence: str
    """A `str.format` template of {value}, {reference}, {rows} and {detail}, all of them texts: `{rows} events, {value}
    the median of the same weekday ({reference})`. No full stop at the end."""
    look: str
    """Where to look when it is bad, as an order: `see the source's files of that day`. Without a full stop."""
    bad: Bad
    """`high`: values above a limit are bad; `low`: those below. `both` is for ratios to what is usual (1 is as usual,
    limits are above 1): 3 is as bad as 1/3, and 0 is worse than any limit."""
    warn: float | None = None
    """The default limit of a warning; None: no warning."""
    alert: float | None = None
    """The default limit of an alert; None: measured, shown, and never an alert."""
    least_rows: int = 1
    """A measure that rests on fewer rows is not judged."""
    form: Form = "number"
    """How the value is written: 0.123, 12.3 % or 2.5 times."""
    reference_form: Form | None = None
    """How the reference is written; by default as the value, and as a number where that is `times`."""

    @property
    def key(self) -> str:
        """`group.name`, by which the configuration and the table name it."""
        return f"{self.group}.{self.name}"

    @property
    def usual_form(self) -> Form:
        """How the reference is written."""
        return self.reference_form or ("number" if self.form == "times" else self.form)

    def named(self, subject: str) -> str:
        """The title with what it is measured of."""
        return f"{self.title} ({subject})" if subject else self.title

    @property
    def limit(self) -> Limit:
        """The default limits."""
        return Limit(self.warn, self.alert)
