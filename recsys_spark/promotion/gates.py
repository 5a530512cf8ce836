"""The gates: what a challenger must show, as functions of numbers that were measured on one window.

A gate is passed, failed, or skipped where what it needs is not there; its text says by how much. Differences are
challenger minus champion (or popularity), user by user, with the interval of a paired bootstrap; a challenger is not
worse where the interval's low end stays above minus the margin (non-inferiority, as in Piaggio et al. 2012).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from recsys_spark.config.promotion import Promotion


@dataclass(frozen=True)
class Gate:
    """A gate's verdict."""

    name: str
    passed: bool | None
    """None: skipped."""
    text: str
    """The numbers, and by how much it failed."""
    value: float | None = None
    """What was measured."""
    bound: float | None = None
    """What it had to keep to."""

    @property
    def line(self) -> str:
        """One line for people."""
        return (
            f"{self.name}: {'skipped' if self.passed is None else 'passed' if self.passed else 'failed'}: {self.text}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Gate:
        """Read back what `to_json` wrote."""
        return cls(**content)


@dataclass(frozen=True)
class Difference:
    """A difference of means, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """Milliseconds that single users took on this machine."""

    median_ms: float
    p95_ms: float


@dataclass(frozen=True)
class SegmentValue:
    """NDCG in a segment of users."""

    ndcg: float
    users: int


@dataclass(frozen=True)
class ListFacts:
    """What was measured of one model's lists on the window."""

    ndcg: float
    coverage: float
    """Share of the items that stand in some list."""
    users: int
    """Users with history who were to get a list."""
    empty_lists: int = 0
    short_lists: int = 0
    """Lists of fewer than K items, empty ones among them."""
    broken_scores: int = 0
    """Listed items whose score is no finite number."""
    popularity: float | None = None
    """Mean popularity of the listed items."""
    popularity_lift: float | None = None
    """How much more popular they are than what the users' own histories hold."""
    segments: Mapping[str, SegmentValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Everything that the gates look at."""

    k: int
    challenger: ListFacts
    evaluated: int
    """Users with something relevant in the window."""
    champion: ListFacts | None = None
    no_champion: str = "there is no champion yet"
    """Why there is nothing of the champion's."""
    incomparable: bool = False
    """There is a champion, but it cannot be measured on this window."""
    against_champion: Difference | None = None
    against_popularity: Difference | None = None
    challenger_latency: Latency | None = None
    champion_latency: Latency | None = None


def judge(measured: Measured, rules: Promotion) -> list[Gate]:
    """The verdict of every gate that is on, in a fixed order."""
    gates = [
        _users(measured, rules),
        _not_worse(measured, rules),
        _beats_popularity(measured, rules),
        _coverage(measured, rules),
        _coverage_kept(measured, rules),
        _segments(measured, rules),
        _popularity_lift(measured, rules),
        _popularity_gain(measured, rules),
        _share("empty_lists", measured.challenger.empty_lists, measured.challenger.users, rules.max_empty_lists),
        _share("short_lists", measured.challenger.short_lists, measured.challenger.users, rules.max_short_lists),
        _scores(measured),
        _latency(measured, rules),
        _latency_ratio(measured, rules),
    ]
    return [gate for gate in gates if gate is not None]


def failed(gates: Sequence[Gate]) -> list[Gate]:
    """Those that were not passed."""
    return [gate for gate in gates if gate.passed is False]


def _without_champion(name: str, measured: Measured, rules: Promotion) -> Gate:
    refused = measured.incomparable and rules.incomparable == "refuse"
    return Gate(name, False if refused else None, measured.no_champion)


def _users(measured: Measured, rules: Promotion) -> Gate | None:
    if rules.min_users is None:
        return None
    value, bound = float(measured.evaluated), float(rules.min_users)
    text = f"{measured.evaluated} users have something relevant in the window; at least {rules.min_users}"
    return Gate("users", value >= bound, _by(text, value >= bound, bound - value, "{:.0f}"), value, bound)


def _not_worse(measured: Measured, rules: Promotion) -> Gate | None:
    if rules.max_ndcg_loss is None:
        return None
    name, champion, difference = "ndcg_not_worse", measured.champion, measured.against_champion
    if champion is None:
        return _without_champion(name, measured, rules)
    if difference is None:
        return Gate(name, False, "nothing could be compared: no user has anything relevant in the window")
    bound = -rules.max_ndcg_loss * champion.ndcg
    passed = difference.low >= bound
    text = (
        f"NDCG@{measured.k} {measured.challenger.ndcg:.4f}, the champion's {champion.ndcg:.4f}, difference "
        f"{_interval(difference)}; its low end may be {bound:+.4f} ({rules.max_ndcg_loss:.1%} lost)"
    )
    return Gate(name, passed, _by(text, passed, bound - difference.low), difference.low, bound)


def _beats_popularity(measured: Measured, rules: Promotion) -> Gate | None:
    if not rules.beat_popularity:
        return None
    name, difference = "beats_popularity", measured.against_popularity
    if difference is None:
        return Gate(name, None, "popularity is not among models, so it was not measured")
    passed = difference.low > 0
    text = f"NDCG@{measured.k} less that of popularity is {_interval(difference)}; its low end must be above 0"
    return Gate(name, passed, _by(text, passed, -difference.low), difference.low, 0.0)


def _coverage(measured: Measured, rules: Promotion) -> Gate | None:
    if rules.min_coverage is None:
        return None
    value, bound = measured.challenger.coverage, rules.min_coverage
    passed = value >= bound
    text = f"{value:.2%} of the items stand in some list; at least {bound:.2%}"
    return Gate("coverage", passed, _by(text, passed, bound - value), value, bound)


def _coverage_kept(measured: Measured, rules: Promotion) -> Gate | None:
    if rules.max_coverage_loss is None:
        return None
    if measured.champion is None:
        return _without_champion("coverage_kept", measured, rules)
    value, bound = measured.challenger.coverage, (1 - rules.max_coverage_loss) * measured.champion.coverage
    passed = value >= bound
    text = f"coverage {value:.2%}, the champion's {measured.champion.coverage:.2%}; at least {bound:.2%}"
    return Gate("coverage_kept", passed, _by(text, passed, bound - value), value, bound)


def _segments(measured: Measured, rules: Promotion) -> Gate | None:
    if rules.max_segment_loss is None:
        return None
    if measured.champion is None:
        return _without_champion("segments", measured, rules)
    before = measured.champion.segments
    losses = {
        name: 1 - now.ndcg / before[name].ndcg
        for name, now in measured.challenger.segments.items()
        if name in before and before[name].ndcg > 0 and now.users >= rules.min_segment_users
    }
    if not losses:
        return Gate("segments", None, f"no segment has {rules.min_segment_users} evaluated users")
    worst = max(losses, key=lambda name: (losses[name], name))
    value, bound = losses[worst], rules.max_segment_loss
    passed = value <= bound
    text = (
        f"{worst} fares worst: NDCG@{measured.k} {measured.challenger.segments[worst].ndcg:.4f}, the champion's "
        f"{before[worst].ndcg:.4f} ({value:.1%} lost, of {measured.challenger.segments[worst].users} users); "
        f"at most {bound:.1%}"
    )
    return Gate("segments", passed, _by(text, passed, value - bound), value, bound)


def _popularity_lift(measured: Measured, rules: Promotion) -> Gate | None:
    value, bound = measured.challenger.popularity_lift, rules.max_popularity_lift
    if bound is None:
        return None
    if value is None:
        return Gate("popularity_lift", None, "the popularity of what is listed was not measured")
    passed = value <= bound
    text = f"listed items are more popular than those of the users' histories by {value:.1%}; at most {bound:.1%}"
    return Gate("popularity_lift", passed, _by(text, passed, value - bound), value, bound)


def _popularity_gain(measured: Measured, rules: Promotion) -> Gate | None:
    bound = rules.max_popularity_gain
    if bound is None:
        return None
    if measured.champion is None:
        return _without_champion("popularity_gain", measured, rules)
    now, before = measured.challenger.popularity, measured.champion.popularity
    if not now or not before:
        return Gate("popularity_gain", None, "the popularity of what is listed was not measured")
    value = now / before - 1
    passed = value <= bound
    text = f"listed items are more popular than the champion's by {value:.1%}; at most {bound:.1%}"
    return Gate("popularity_gain", passed, _by(text, passed, value - bound), value, bound)


def _share(name: str, count: int, users: int, bound: float | None) -> Gate | None:
    if bound is None:
        return None
    value = count / users if users else 0.0
    passed = value <= bound
    text = f"{count} of {users} users ({value:.2%}); at most {bound:.2%}"
    return Gate(name, passed, _by(text, passed, value - bound), value, bound)


def _scores(measured: Measured) -> Gate:
    count = measured.challenger.broken_scores
    return Gate("scores", count == 0, f"{count} listed items without a finite score; none may be", float(count), 0.0)


def _latency(measured: Measured, rules: Promotion) -> Gate | None:
    taken, bound = measured.challenger_latency, rules.max_latency_ms
    if bound is None:
        return None
    if taken is None:
        return Gate("latency", None, "nothing was measured: there is no user with history")
    passed = taken.p95_ms <= bound
    text = (
        f"a single user takes {taken.median_ms:.1f} ms (median), {taken.p95_ms:.1f} ms (95th percentile) "
        f"on this machine; at most {bound:.1f} ms"
    )
    return Gate("latency", passed, _by(text, passed, taken.p95_ms - bound, "{:.1f} ms"), taken.p95_ms, bound)


def _latency_ratio(measured: Measured, rules: Promotion) -> Gate | None:
    now, before, ratio = measured.challenger_latency, measured.champion_latency, rules.max_latency_ratio
    if ratio is None:
        return None
    if now is None or before is None:
        return Gate("latency_ratio", None, "there is no champion to measure beside")
    bound = ratio * before.p95_ms
    passed = now.p95_ms <= bound
    text = (
        f"95th percentile {now.p95_ms:.1f} ms, the champion's {before.p95_ms:.1f} ms (medians {now.median_ms:.1f} and "
        f"{before.median_ms:.1f} ms) on this machine; at most {ratio:g} times as much"
    )
    return Gate("latency_ratio", passed, _by(text, passed, now.p95_ms - bound, "{:.1f} ms"), now.p95_ms, bound)


def _interval(difference: Difference) -> str:
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def _by(text: str, passed: bool, amount: float, unit: str = "{:.4f}") -> str:
    """The text, with by how much the bound was missed."""
    return text if passed else f"{text}; missed by {unit.format(abs(amount))}"
