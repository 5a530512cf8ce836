"""What goes wrong in a log between the shop and the files: copies, robots, returns, broken values and lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.log_model import DAY, PURCHASE, STEPS, VIEW, Events, LogSpec, Market

VALUE_RATES = {
    "bad_time": 0.0005,
    "future_time": 0.0002,
    "ancient_time": 0.0002,
    "missing_user": 0.0005,
    "missing_item": 0.0003,
    "bad_price": 0.0005,
    "unknown_type": 0.0003,
    "bad_bytes": 0.0002,
    "item_spelling": 0.004,
    "price_in_cents": 0.001,
    "absurd_quantity": 0.0002,
}
"""Share of the rows whose values are spoilt; a row is spoilt in one way at most."""
LINE_RATES = {"cut_line": 0.0003, "broken_quote": 0.0002}
"""Share of the rows whose line is broken (not in Parquet)."""
EXACT_COPIES, NEAR_COPIES, RETURNS, LATE = 0.004, 0.004, 0.03, 0.01
"""Shares: rows with an exact copy, rows with one some seconds later, purchases given back, rows that come late."""
ROBOTS = 0.01
"""Rows of robots for each row of a customer."""
ROBOT_SECONDS = 2
TEST_ACCOUNTS = 0.001
"""Share of users."""
CONFLICTS = 0.01
"""Share of items that the catalogue names twice."""
KINDS = ("", *VALUE_RATES, *LINE_RATES)


@dataclass
class DirtyRows:
    """Rows with what was done to them [E]."""

    events: Events
    delay_E: np.ndarray
    """Seconds between the event and its arrival."""
    kind_E: np.ndarray
    """Place in KINDS of what is spoilt."""
    test_users: np.ndarray
    """Numbers of the users that are test accounts."""
    truth: dict[str, int]
    """Rows of each kind of dirt."""


def robots_of(spec: LogSpec) -> tuple[int, int]:
    """Robots in the log, and the rows of each."""
    rows = min(max(spec.events // 100, 100), 1200)
    return (max(1, round(ROBOTS * spec.dirty * spec.events / rows)), rows) if spec.dirty else (0, 0)


def soiled(spec: LogSpec, market: Market, shard: int, events: Events, lines: bool = True) -> DirtyRows:
    """The shard's rows as they come into the files; without `lines` no line is broken."""
    rng = np.random.default_rng([spec.seed, 3, shard])
    customers = len(events.time_E)
    truth = {"events": customers}
    truth |= {step: int((events.step_E == place).sum()) for place, step in enumerate(STEPS)}
    first, last = spec.share(spec.num_users, shard)
    test_users = first + np.flatnonzero(rng.random(last - first) < TEST_ACCOUNTS * spec.dirty)
    returns, robots = _returns(spec, events, rng), _robots(spec, market, shard, rng)
    truth |= {"return": len(returns.time_E), "robot": len(robots.time_E)}
    events = Events.joined(events, returns, robots)
    truth["test_account"] = int(np.isin(events.user_E, test_users).sum())

    # The first rows are customers', and only those are spoilt: what is spoilt is then known by its one reason.
    rates = np.array([*VALUE_RATES.values(), *[rate if lines else 0.0 for rate in LINE_RATES.values()]]) * spec.dirty
    kind_E = np.zeros(len(events.time_E), dtype=np.int8)
    bounds = np.cumsum(np.append(rates, [EXACT_COPIES * spec.dirty, NEAR_COPIES * spec.dirty]))
    drawn = np.searchsorted(bounds, rng.random(customers), side="right")
    kind_E[:customers] = np.where(drawn < len(rates), drawn + 1, 0)
    exact, near = (np.flatnonzero(drawn == len(rates) + copy) for copy in (0, 1))
    truth |= {name: int((kind_E == place).sum()) for place, name in enumerate(KINDS) if name}

    late = rng.random(len(events.time_E)) < LATE * spec.dirty
    delay_E = np.where(late, rng.integers(1, 4, len(events.time_E)) * DAY, 0)
    delay_E[events.time_E + delay_E >= spec.days * DAY] = 0
    nearby = events.take(near)
    nearby.time_E = nearby.time_E + rng.integers(1, 4, len(near))
    truth |= {"exact_duplicate": len(exact), "near_duplicate": len(near)}
    events = Events.joined(events, events.take(exact), nearby)
    delay_E = np.concatenate([delay_E, delay_E[exact], delay_E[near]])
    kind_E = np.concatenate([kind_E, kind_E[exact], kind_E[near]])
    truth |= {"late": int((delay_E > 0).sum()), "rows": len(delay_E)}
    return DirtyRows(events, delay_E, kind_E, test_users, truth)


def _returns(spec: LogSpec, events: Events, rng: np.random.Generator) -> Events:
    """Purchases given back up to a week later, as a purchase of a negative quantity of the same order."""
    bought = events.step_E == PURCHASE
    given = events.take(np.flatnonzero(bought & (rng.random(len(bought)) < RETURNS * spec.dirty)))
    given.time_E = given.time_E + rng.integers(DAY, 7 * DAY, len(given.time_E))
    given.quantity_E = -given.quantity_E
    return given.take(given.time_E < spec.days * DAY)


def _robots(spec: LogSpec, market: Market, shard: int, rng: np.random.Generator) -> Events:
    """Robots walk through the shop's items, one every two seconds."""
    total, rows = robots_of(spec)
    numbers = np.arange(total)[np.arange(total) % spec.shards == shard]
    starts = rng.integers(0, spec.days * DAY - rows * ROBOT_SECONDS, len(numbers))
    offsets = rng.integers(0, spec.num_items, len(numbers))
    walk = np.arange(rows)
    count = len(numbers) * rows
    return Events(
        time_E=(starts[:, None] + walk * ROBOT_SECONDS).ravel(),
        user_E=np.repeat(spec.num_users + numbers, rows),
        item_E=((offsets[:, None] + walk) % spec.num_items).ravel(),
        step_E=np.full(count, VIEW),
        quantity_E=np.zeros(count, dtype=np.int64),
        order_E=np.full(count, -1),
    )
