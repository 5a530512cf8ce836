"""Rules that need a user's other rows: they run on one bucket of users at a time, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.events.rules.bucket_rows import Bucket
from recsys_spark.events.rules.near_duplicates import near_duplicates
from recsys_spark.events.rules.returns import netted
from recsys_spark.events.rules.robots import robots

GROUP_REASONS = ("robot", "returned", "return", "unmatched_return")
"""The reasons that are given here; `return` is a row rule's as well."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of the rows of a bucket, by their place in it."""

    near_duplicates: NDArray[np.bool_]
    """bool[N]: rows to drop and to count as duplicates; they have no reasons."""
    reasons: dict[str, NDArray[np.bool_]]
    """Each of GROUP_REASONS whose rule is on to bool[N]: rows for quarantine."""
    quantity: NDArray[np.float64]
    """float64[N]: the quantities that remain after returns."""


def group_rules(bucket: Bucket, cleaning: Cleaning) -> Verdict:
    """The verdict of the rules that are on.

    The verdict on a day is a function of the rows of the days around it, `cleaning.return_days` before and after, and
    of those only that arrived by `lateness_days` after the day. Near duplicates go first, so that a page that fires
    twice makes no robot of a person.
    """
    copies, machines = _copies_and_robots(bucket, cleaning)
    reasons = {"robot": machines & ~copies} if cleaning.robots.on else {}
    quantity = bucket.quantity
    if cleaning.returns == "net":
        # Netting sees prompt rows as if the others never came, or a late row could change a day that is final.
        prompt = bucket.arrivals - bucket.days <= cleaning.prompt_days
        if prompt.all():
            takes_part = ~(copies | machines)
        else:
            inner_copies, inner_machines = _copies_and_robots(bucket.where(prompt), cleaning)
            takes_part = prompt.copy()
            takes_part[prompt] = ~(inner_copies | inner_machines)
        found, quantity = netted(bucket, takes_part, cleaning.return_days)
        reasons |= {name: rows & ~copies for name, rows in found.items()}
    return Verdict(copies, reasons, quantity)


def _copies_and_robots(bucket: Bucket, cleaning: Cleaning) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    copies = near_duplicates(bucket, cleaning.near_duplicate_seconds)
    machines = np.zeros(len(bucket), bool)
    if cleaning.robots.on:
        machines[~copies] = robots(bucket.where(~copies), cleaning.robots)
    return copies, machines


def group_rules_on(cleaning: Cleaning) -> bool:
    """May a group rule send rows to quarantine."""
    return cleaning.robots.on or cleaning.returns == "net"
