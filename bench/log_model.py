"""How the customers of an invented shop behave: the events of a share of its users, drawn with numpy.

Everything follows from the seed and the number of the shard, never from the machine, so shards can be made anywhere, in
any order. Letters of shapes: E events, L looks (a user stays at an item), S sessions, U users, I items, D days.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np

VIEW, CLICK, CART, PURCHASE = 0, 1, 2, 3
STEPS = ("view", "click", "add_to_cart", "purchase")
STEP_CHANCES = np.cumprod([0.35, 0.25, 0.45])
"""Chance that a look comes to a click, from there to the cart, from there to the purchase."""
LOOKS_ENDING = 0.25
"""Chance that a session ends after a look: four looks on average."""
TASTES = np.array([0.6, 0.3, 0.1])
"""Share of a user's sessions in the first, second and third of their categories."""
EVENTS_OF_A_SESSION = 5.9
"""About; the log is drawn until it is long enough."""
OFF_TASTE = 0.15
"""Share of looks outside the session's category."""
CONSUMABLE = 0.3
"""Share of items that are bought again and again, each after an interval of its own."""
REBUY = 0.6
"""Chance that such a purchase is followed by the next one."""
NEW_ITEMS = 0.2
"""Share of items that come into the shop while the log runs."""
DAY = 86_400
WEEK = np.array([0.9, 0.85, 0.9, 0.95, 1.1, 1.3, 1.2])
HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 10, 11, 11, 10, 10, 11, 12, 14, 16, 17, 15, 10, 5], dtype=float)
ORDERS_OF_A_SHARD = 10**8
FIRST_REBUY = ORDERS_OF_A_SHARD // 2


@dataclass(frozen=True)
class LogSpec:
    """What log to make."""

    events: int
    """Events of customers; dirt comes on top."""
    days: int = 30
    users: int = 0
    """0: one for 20 events."""
    items: int = 0
    """0: one for 250 events, between 50 and 1,000,000."""
    seed: int = 20
    start: date = date(2024, 1, 1)
    dirty: float = 1.0
    """How dirty: 1 as usual, 0 clean, 2 twice as dirty."""

    @property
    def num_users(self) -> int:
        """Customers."""
        return self.users or max(2, self.events // 20)

    @property
    def num_items(self) -> int:
        """Items."""
        return self.items or min(max(50, self.events // 250), 1_000_000)

    @property
    def shards(self) -> int:
        """Parts that are made apart: about a million events each. Depends on the log alone, never on the machine."""
        wanted = math.ceil(self.events / 1_000_000) if self.events > 4_000_000 else math.ceil(self.events / 50_000)
        return min(wanted if self.events > 4_000_000 else min(wanted, 4), self.num_users)

    def share(self, total: int, shard: int) -> tuple[int, int]:
        """The shard's part of so many: first and last, exclusive."""
        return total * shard // self.shards, total * (shard + 1) // self.shards

    @property
    def start_seconds(self) -> int:
        """The first midnight, in seconds since 1970."""
        return (self.start - date(1970, 1, 1)).days * DAY


class Market:
    """The items: grouped by category, with what makes them sell on a day."""

    def __init__(self, spec: LogSpec) -> None:
        rng = np.random.default_rng([spec.seed, 1])
        count = spec.num_items
        self.days = spec.days
        categories = min(max(4, int(math.sqrt(count) / 2)), 200)
        sizes = 1 / np.arange(1, categories + 1) ** 0.7
        self.category_I = np.sort(rng.choice(categories, count, p=sizes / sizes.sum())).astype(np.int32)
        self.bounds = np.searchsorted(self.category_I, np.arange(categories + 1))
        """Where each category's items start."""
        self.number_I = rng.permutation(count) + 1
        """What an item is called by: tells nothing of it."""
        self._weight_I = 1 / (rng.permutation(count) + 3.0)  # Zipf's law
        self._drift_I = rng.normal(0, 0.8, count)
        self._season_I = rng.uniform(0, 2 * np.pi, categories)[self.category_I]
        self.launch_I = np.where(rng.random(count) < NEW_ITEMS, rng.integers(0, max(spec.days, 1), count), 0)
        self.price_I = np.round(np.exp(rng.normal(3, 1, count)) + 0.5, 2)
        intervals = rng.gamma(6, max(spec.days, 6) / 40, count) + 1
        self.interval_I = np.where(rng.random(count) < CONSUMABLE, intervals, 0)
        """Days after which an item is bought again, 0 where it is not."""
        self.promotion_I = rng.integers(0, 10, count)
        weights = np.diff(np.concatenate([[0.0], np.cumsum(self._weight_I)])[self.bounds])
        self.category_weights = weights / weights.sum()
        """Share of the shop's interest in each category."""

    def interest(self, day: int) -> np.ndarray:
        """Cumulative interest in the items on a day [I + 1]: drift, the category's season, novelty."""
        season = 0.4 * np.sin(2 * np.pi * day / 28 + self._season_I)
        age = day - self.launch_I
        novelty = np.where(self.launch_I > 0, 1 + 3 * np.exp(-age / 5), 1)
        weights = self._weight_I * np.exp(self._drift_I * day / self.days + season) * np.where(age >= 0, novelty, 1e-12)
        return np.concatenate([[0.0], np.cumsum(weights)])

    def price(self, items: np.ndarray, days: np.ndarray) -> np.ndarray:
        """Price of items on days: one in ten is a fifth cheaper for a week."""
        reduced = self.promotion_I[items] == (days // 7) % 10
        return np.round(np.where(reduced, self.price_I[items] * 0.8, self.price_I[items]), 2)


@dataclass
class Events:
    """Columns of equal length [E]."""

    time_E: np.ndarray
    """Seconds since the log's first midnight."""
    user_E: np.ndarray
    """User's number in the shop; robots have numbers after the users."""
    item_E: np.ndarray
    step_E: np.ndarray
    """Place in STEPS."""
    quantity_E: np.ndarray
    """0: none is told."""
    order_E: np.ndarray
    """Number of the order, -1: none."""

    def take(self, rows: np.ndarray) -> Events:
        """Some rows, by mask or by place."""
        return Events(*[column[rows] for column in vars(self).values()])

    @staticmethod
    def joined(*parts: Events) -> Events:
        """One after the other."""
        return Events(
            *[np.concatenate(columns) for columns in zip(*[vars(part).values() for part in parts], strict=True)]
        )


def customer_events(spec: LogSpec, market: Market, shard: int) -> Events:
    """Exactly the shard's share of `spec.events`, in the order of sessions; a session's own are in order of time."""
    first, last = spec.share(spec.events, shard)
    wanted, factor = last - first, 1.02
    while True:
        rng = np.random.default_rng([spec.seed, 2, shard])
        events, session_E = _sessions(spec, market, shard, int(wanted / EVENTS_OF_A_SESSION * factor) + 50, rng)
        if len(session_E) >= wanted:
            break
        factor *= 1.4
    # Whole sessions as long as they fit; the last one loses its end.
    order = np.argsort(session_E * (spec.days * DAY * 2) + events.time_E, kind="stable")[:wanted]
    return events.take(order)


def _sessions(
    spec: LogSpec, market: Market, shard: int, count: int, rng: np.random.Generator
) -> tuple[Events, np.ndarray]:
    """Events of so many sessions, with the number of each one's session."""
    first, last = spec.share(spec.num_users, shard)
    activity = np.cumsum(rng.lognormal(0, 1.2, last - first))
    tastes = rng.choice(len(market.category_weights), (last - first, len(TASTES)), p=market.category_weights)
    user_S = np.minimum(np.searchsorted(activity, rng.random(count) * activity[-1]), last - first - 1)
    rhythm = WEEK[(np.arange(spec.days) + spec.start.weekday()) % 7] * (1 + 0.2 * np.arange(spec.days) / spec.days)
    day_S = rng.choice(spec.days, count, p=rhythm / rhythm.sum())
    second_S = rng.choice(24, count, p=HOURS / HOURS.sum()) * 3600 + rng.integers(0, 3600, count)
    taste_S = tastes[user_S, rng.choice(len(TASTES), count, p=TASTES)]

    looks_S = np.minimum(rng.geometric(LOOKS_ENDING, count), 60)
    session_L = np.repeat(np.arange(count), looks_S)
    place_L = np.arange(len(session_L)) - np.repeat(np.cumsum(looks_S) - looks_S, looks_S)
    elsewhere = rng.random(len(session_L)) < OFF_TASTE
    other = rng.choice(len(market.category_weights), int(elsewhere.sum()), p=market.category_weights)
    category_L = taste_S[session_L]
    category_L[elsewhere] = other
    item_L = _items(market, day_S[session_L], category_L, rng)
    time_L = day_S[session_L] * DAY + second_S[session_L] + place_L * 60 + rng.integers(0, 20, len(session_L))

    steps_L = 1 + (rng.random(len(session_L))[:, None] < STEP_CHANCES).sum(axis=1)
    look_E = np.repeat(np.arange(len(session_L)), steps_L)
    step_E = np.arange(len(look_E)) - np.repeat(np.cumsum(steps_L) - steps_L, steps_L)
    quantity_L = np.minimum(rng.geometric(0.75, len(session_L)), 9)
    session_E = session_L[look_E]
    events = Events(
        time_E=time_L[look_E] + step_E * 10,
        user_E=user_S[session_E] + first,
        item_E=item_L[look_E],
        step_E=step_E,
        quantity_E=np.where(step_E >= CART, quantity_L[look_E], 0),
        order_E=np.where(step_E == PURCHASE, shard * ORDERS_OF_A_SHARD + session_E, -1),
    )
    again, session_again = _rebought(market, events, session_E, shard, rng)
    events, session_E = Events.joined(events, again), np.concatenate([session_E, session_again])
    inside = events.time_E < spec.days * DAY
    return events.take(inside), session_E[inside]


def _items(market: Market, day_L: np.ndarray, category_L: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An item of the category for each look, by the interest of that day."""
    draw_L, items_L = rng.random(len(day_L)), np.empty(len(day_L), dtype=np.int64)
    by_day = np.argsort(day_L, kind="stable")
    cuts = np.searchsorted(day_L[by_day], np.arange(market.days + 1))
    for day in range(market.days):
        rows = by_day[cuts[day] : cuts[day + 1]]
        interest = market.interest(day)
        low, high = (interest[market.bounds[category_L[rows] + offset]] for offset in (0, 1))
        found = np.searchsorted(interest, low + draw_L[rows] * (high - low), side="right") - 1
        items_L[rows] = np.clip(found, market.bounds[category_L[rows]], market.bounds[category_L[rows] + 1] - 1)
    return items_L


def _rebought(
    market: Market, events: Events, session_E: np.ndarray, shard: int, rng: np.random.Generator
) -> tuple[Events, np.ndarray]:
    """Later purchases of consumables: the same user and item, about the item's interval after the last one."""
    rows = np.flatnonzero((events.step_E == PURCHASE) & (market.interval_I[events.item_E] > 0))
    last, session = events.take(rows), session_E[rows]
    parts, sessions, order = [last.take(np.arange(0))], [session[:0]], shard * ORDERS_OF_A_SHARD + FIRST_REBUY
    while len(session):
        gone_on = rng.random(len(session)) < REBUY
        last, session = last.take(gone_on), session[gone_on]
        wait = market.interval_I[last.item_E] * DAY * rng.lognormal(0, 0.15, len(session))
        last.time_E = last.time_E + wait.astype(np.int64)
        last.order_E = order + np.arange(len(session))
        inside = last.time_E < market.days * DAY
        last, session, order = last.take(inside), session[inside], order + len(session)
        parts.append(last)
        sessions.append(session)
    return Events.joined(*parts), np.concatenate(sessions)
