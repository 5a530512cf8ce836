"""What is summed over users: of each metric a numerator and a divisor, by model, mode, k and segment. numpy.

Legend: U users, L lists of a user (list m * modes + r is that of model m under mode r), K places, N events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_spark.evaluation.beyond import calibration, diversity, list_means
from recsys_spark.evaluation.item_facts import POPULARITY_STRATA, ItemFacts, age_names
from recsys_spark.evaluation.off_policy import Exposures, policy_sums, rewards
from recsys_spark.evaluation.ranking import METRICS, ranking_metrics

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
ACTIVITY, ITEM_AGE, ITEM_POPULARITY = "user_activity", "item_age", "item_popularity"
ACTIVITIES = ("new", "light", "heavy")
BY_ACTIVITY = ("ndcg", "recall", "novelty", "popularity_lift", "calibration")
BY_STRATUM = ("ndcg", "recall")
OFF_POLICY = ("ips", "snips", "ips_weight")


@dataclass(frozen=True)
class Logged:
    """How logged exposures are used."""

    seconds: int
    """A target event up to so long after an exposure is its reward."""
    clip: float | None
    """Largest importance weight."""
    ranked: bool
    """Were the places of exposures logged."""


@dataclass(frozen=True)
class Measuring:
    """What is measured, and of whom."""

    models: tuple[str, ...]
    modes: tuple[str, ...]
    ks: tuple[int, ...]
    fold: int
    """The fold whose target events are relevant."""
    targets: tuple[int, ...]
    """Codes of the target event types."""
    cold_misses: bool
    """Are items unknown before the fold relevant all the same."""
    age_days: tuple[int, ...]
    activity: tuple[float, ...]
    """Events before the fold from which a user is light, and heavy."""
    logged: Logged | None = None

    @property
    def lists(self) -> int:
        """L."""
        return len(self.models) * len(self.modes)


@dataclass(frozen=True)
class Term:
    """A number that is reported of a list: the metric, its k, and whom or what it is restricted to."""

    metric: str
    k: int
    dimension: str = ""
    segment: str = ""

    @property
    def name(self) -> str:
        """Its numerator's name among the sums."""
        metric = "ips" if self.metric == "snips" else self.metric
        return f"{metric}|{self.k}|{self.dimension}|{self.segment}"

    @property
    def divisor(self) -> str:
        """Its divisor's name."""
        own = {
            **dict.fromkeys(METRICS, "users|0"),
            **dict.fromkeys(("novelty", "popularity"), "lists|0"),
            **{"diversity": f"pairs|{self.k}", "calibration": f"calibrated|{self.k}"},
            **{"popularity_lift": "own_popularity|0"},
            **{"ips": f"exposures|{self.k}", "ips_weight": f"exposures|{self.k}", "snips": f"ips_weight|{self.k}"},
        }[self.metric]
        return f"{own}|{self.dimension}|{self.segment}"

    @property
    def counted(self) -> str:
        """Name of the number of users behind it."""
        if self.metric in OFF_POLICY:
            return f"exposed|0|{self.dimension}|{self.segment}"
        return f"profiles|0|{self.dimension}|{self.segment}" if self.metric == "popularity_lift" else self.divisor


@dataclass(frozen=True)
class Users:
    """A block of users: their events, oldest first, and the lists that each was given."""

    rows: Ints
    """[N] row 0 to U-1 of each event."""
    items: Ints
    """[N] item_index."""
    event_types: Ints
    """[N]."""
    folds: Ints
    """[N]."""
    times: Ints
    """[N] epoch seconds."""
    lists: Ints
    """[U, L, K] item_index, -1 where a list has ended."""
    exposures: Exposures | None = None

    @property
    def count(self) -> int:
        """U."""
        return len(self.lists)


def sums_of_users(users: Users, facts: ItemFacts, measuring: Measuring) -> dict[str, Floats]:
    """Name to the [U, L] values to be summed, or [U, modes] where they do not depend on the model."""
    before, target = users.folds < measuring.fold, np.isin(users.event_types, measuring.targets)
    in_fold = users.folds == measuring.fold
    history = np.bincount(users.rows[before], minlength=users.count)
    bought = np.unique(users.rows[before & target] * facts.size + users.items[before & target])
    wanted = in_fold & target & (history > 0)[users.rows]
    if not measuring.cold_misses:
        wanted &= facts.known[users.items]
    relevant = np.unique(users.rows[wanted] * facts.size + users.items[wanted])
    by_mode = [relevant if mode == "allow" else np.setdiff1d(relevant, bought) for mode in measuring.modes]
    measured = np.bincount(users.rows[in_fold], minlength=users.count) > 0
    activity = np.searchsorted(np.array(measuring.activity), history, side="right")
    values: dict[str, Floats] = {}
    overall = dict(_accuracy(users, by_mode, facts, measuring)) | dict(
        _beyond(users, before & target, bought, measured, facts, measuring)
    )
    values |= overall
    wanted_names = {Term(metric, k).name for metric in BY_ACTIVITY for k in measuring.ks}
    wanted_names |= {name for metric in BY_ACTIVITY for k in measuring.ks for name in _divisors(Term(metric, k))}
    for number, segment in enumerate(ACTIVITIES):
        own = (activity == number)[:, None]
        values |= {
            f"{name.removesuffix('||')}|{ACTIVITY}|{segment}": value * own
            for name, value in overall.items()
            if name in wanted_names
        }
    ages = age_names(measuring.age_days)
    values |= _strata(users, by_mode, facts.stratum, ITEM_POPULARITY, POPULARITY_STRATA, facts.size, measuring)
    values |= _strata(users, by_mode, facts.age, ITEM_AGE, ages, facts.size, measuring)
    if measuring.logged is not None and users.exposures is not None:
        values |= _off_policy(users, users.exposures, in_fold & target, measuring, measuring.logged)
    return values


def _divisors(term: Term) -> tuple[str, str]:
    return term.divisor, term.counted


def _hits(lists: Ints, by_mode: Sequence[Ints], size: int) -> Bools:
    """[U, L, K] where a list holds one of the keys (row * size + item, sorted) of its mode."""
    keys = np.arange(len(lists))[:, None, None] * size + lists
    hits = np.zeros(lists.shape, dtype=np.bool_)
    for mode, relevant in enumerate(by_mode):
        if len(relevant):
            own = keys[:, mode :: len(by_mode)]
            place = np.minimum(np.searchsorted(relevant, own), len(relevant) - 1)
            hits[:, mode :: len(by_mode)] = (relevant[place] == own) & (lists[:, mode :: len(by_mode)] >= 0)
    return hits


def _counts(by_mode: Sequence[Ints], size: int, users: int) -> Ints:
    """[U, modes] how many items are relevant."""
    return np.stack([np.bincount(keys // size, minlength=users) for keys in by_mode], axis=1).astype(np.int64)


def _accuracy(
    users: Users, by_mode: Sequence[Ints], facts: ItemFacts, measuring: Measuring
) -> Iterator[tuple[str, Floats]]:
    counts = _counts(by_mode, facts.size, users.count)
    yield "users|0||", (counts > 0).astype(np.float64)
    relevant = np.tile(counts, (1, len(measuring.models)))
    metrics = ranking_metrics(_hits(users.lists, by_mode, facts.size), relevant, measuring.ks)
    for (metric, k), value in metrics.items():
        yield Term(metric, k).name, value


def _strata(
    users: Users,
    by_mode: Sequence[Ints],
    stratum: Ints,
    dimension: str,
    names: Sequence[str],
    size: int,
    measuring: Measuring,
) -> dict[str, Floats]:
    """Metrics that count the relevant items of a stratum alone, over the users who have some."""
    values: dict[str, Floats] = {}
    for number, name in enumerate(names):
        own = [keys[stratum[keys % size] == number] for keys in by_mode]
        counts = _counts(own, size, users.count)
        values[f"users|0|{dimension}|{name}"] = (counts > 0).astype(np.float64)
        relevant = np.tile(counts, (1, len(measuring.models)))
        metrics = ranking_metrics(_hits(users.lists, own, size), relevant, measuring.ks, BY_STRATUM)
        values |= {Term(metric, k, dimension, name).name: value for (metric, k), value in metrics.items()}
    return values


def _beyond(
    users: Users, bought_events: Bools, bought: Ints, measured: Bools, facts: ItemFacts, measuring: Measuring
) -> Iterator[tuple[str, Floats]]:
    """What the lists of users with an event in the fold are like; `bought` are keys row * size + item."""
    ks = measuring.ks
    listed = (users.lists[:, :, 0] >= 0) & measured[:, None]
    yield "lists|0||", listed.astype(np.float64)
    row = bought // facts.size
    count = np.bincount(row, minlength=users.count)
    own = np.bincount(row, weights=facts.popularity[bought % facts.size], minlength=users.count) / np.maximum(count, 1)
    profiled = listed & (own > 0)[:, None]
    yield "profiles|0||", profiled.astype(np.float64)
    yield "own_popularity|0||", profiled * own[:, None]
    novelty = list_means(users.lists, facts.surprise, ks)
    popularity = list_means(users.lists, facts.popularity, ks)
    different = diversity(users.lists, facts, ks)
    for k in ks:
        yield Term("novelty", k).name, novelty[k] * listed
        yield Term("popularity", k).name, popularity[k] * listed
        yield Term("popularity_lift", k).name, popularity[k] * profiled
        value, has = different[k]
        yield Term("diversity", k).name, value * measured[:, None]
        yield f"pairs|{k}||", (has & measured[:, None]).astype(np.float64)
    if facts.categories:
        found = calibration(users.lists, users.rows[bought_events], users.items[bought_events], facts, ks)
        for k, (value, has) in found.items():
            yield Term("calibration", k).name, value * measured[:, None]
            yield f"calibrated|{k}||", (has & measured[:, None]).astype(np.float64)


def _off_policy(
    users: Users, exposures: Exposures, targets: Bools, measuring: Measuring, logged: Logged
) -> dict[str, Floats]:
    reward = rewards(exposures, users.rows[targets], users.items[targets], users.times[targets], logged.seconds)
    values: dict[str, Floats] = {}
    exposed = np.bincount(exposures.rows, minlength=users.count) > 0
    values["exposed|0||"] = exposed[:, None].astype(np.float64)
    for k, sums in policy_sums(exposures, reward, users.lists, measuring.ks, logged.clip).items():
        values[f"exposures|{k}||"] = sums.exposures[:, None]
        values[f"ips|{k}||"] = sums.rewards
        values[f"ips_weight|{k}||"] = sums.weights
        values[f"ips_squares|{k}||"] = sums.squares
    return values
