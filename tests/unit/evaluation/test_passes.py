"""The pass over users in Spark, on a small shop of random lists."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.evaluation.exposure import exposure_metrics
from recsys_spark.evaluation.item_facts import counts_before, item_facts
from recsys_spark.evaluation.measures import Logged, Measuring
from recsys_spark.evaluation.passes import FactsAt, summed, users_with_lists
from recsys_spark.evaluation.results import Results

PURCHASE, VIEW, DAY = 4, 1, 86_400
CUT = 400 * DAY
MODELS, MODES, KS = ("popularity", "gru", "fused", "silent"), ("allow", "drop"), (3, 6)
HISTORIES = (
    "user_index int, user_id string, items array<int>, event_types array<int>, weights array<float>, "
    "times array<bigint>, folds array<int>"
)
MEASURING = Measuring(MODELS, MODES, KS, 2, (PURCHASE,), False, (30, 180), (4.0, 8.0))


def events_of(users: int = 40, items: int = 25, seed: int = 1) -> list[list[tuple[int, int, int, int]]]:
    """By user (item, type, time, fold), oldest first; some users have events before the test fold or in it alone."""
    random = np.random.default_rng(seed)
    shop = []
    for user in range(users):
        before = 0 if user % 10 == 3 else int(random.integers(1, 12))
        after = 0 if user % 10 == 5 else int(random.integers(1, 6))
        times = (
            np.sort(random.integers(0, CUT, before)).tolist()
            + np.sort(random.integers(CUT, CUT + 9 * DAY, after)).tolist()
        )
        drawn = np.minimum(random.geometric(0.15, before + after), items - 5).tolist()
        drawn[before:] = [
            item if random.random() < 0.8 else items - 1 for item in drawn[before:]
        ]  # or never seen before
        types = random.choice([PURCHASE, PURCHASE, VIEW], before + after).tolist()
        shop.append(
            [(i, t, at, 2 if at >= CUT else int(at > CUT * 0.8)) for i, t, at in zip(drawn, types, times, strict=True)]
        )
    return shop


def histories(spark: SparkSession, shop: list[list[tuple[int, int, int, int]]]) -> DataFrame:
    rows = [
        (
            n,
            f"u{n}",
            [e[0] for e in own],
            [e[1] for e in own],
            [1.0] * len(own),
            [e[2] for e in own],
            [e[3] for e in own],
        )
        for n, own in enumerate(shop)
    ]
    return spark.createDataFrame(rows, HISTORIES)


class Shop:
    """Frames, and where the item facts were written."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        random = np.random.default_rng(2)
        self.events = events_of()
        self.histories = histories(spark, self.events)
        categories = [None if i % 7 == 6 else f"c{i % 3}" for i in range(26)]
        self.items = spark.createDataFrame(
            [(i, f"i{i}", categories[i]) for i in range(26)], "item_index int, item_id string, category string"
        )
        vectors = spark.createDataFrame(
            [(i, [float(np.cos(i)), float(np.sin(i))]) for i in range(24)], "item_index int, vector array<float>"
        )
        self.lists = {
            (model, mode, n): random.permutation(26)[: random.integers(1, 7)].tolist()
            for model in MODELS[:3]
            for mode in MODES
            for n in range(40)
            if not (model == "gru" and n % 9 == 0)
        }
        self.lists_frame = spark.createDataFrame(
            [
                (model, mode, f"u{n}", rank, f"i{item}", 0.0)
                for (model, mode, n), items in self.lists.items()
                for rank, item in enumerate(items, 1)
            ],
            "model string, repeats string, user_id string, rank int, item_id string, score float",
        )
        path = folder / "facts"
        item_facts(self.items, counts_before(self.histories, 2, (PURCHASE,)), vectors).coalesce(1).write.parquet(
            str(path)
        )
        self.facts = FactsAt(str(path), CUT, (0.5, 0.8), (30, 180), True)
        self.users = users_with_lists(self.histories, self.lists_frame, self.items, MEASURING, 20)
        self.sums = summed(self.users, self.facts, MEASURING, 50)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(spark, tmp_path_factory.mktemp("shop"))


def wanted_of(shop: Shop, n: int, mode: str) -> set[int]:
    """The relevant items of user n by the definition: bought in the window, known before it, and by a known user."""
    own, before = shop.events[n], {e[0] for events in shop.events for e in events if e[3] < 2}
    if not any(e[3] < 2 for e in own):
        return set()
    bought = {e[0] for e in own if e[3] < 2 and e[1] == PURCHASE} if mode == "drop" else set()
    return ({e[0] for e in own if e[3] == 2 and e[1] == PURCHASE} & before) - bought


def test_metrics_are_those_of_lists_and_sets(shop: Shop) -> None:
    found = {row[:4]: row for row in Results(shop.sums, MEASURING, 0.95).metrics()}
    for model in MODELS:
        for mode in MODES:
            for k in KS:
                gains, recalls, reciprocals = [], [], []
                for n in range(40):
                    wanted = wanted_of(shop, n, mode)
                    if not wanted:
                        continue
                    listed = shop.lists.get((model, mode, n), [])[:k]
                    ranks = [rank for rank, item in enumerate(listed, 1) if item in wanted]
                    ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
                    gains.append(sum(1 / np.log2(rank + 1) for rank in ranks) / ideal)
                    recalls.append(len(ranks) / min(k, len(wanted)))
                    reciprocals.append(1 / ranks[0] if ranks else 0)
                assert 10 < len(gains) < 36
                for metric, values in (("ndcg", gains), ("recall", recalls), ("mrr", reciprocals)):
                    row = found[model, mode, metric, k]
                    assert (row[4], row[7]) == (pytest.approx(np.mean(values), abs=1e-8), len(values))
                    assert row[5] <= row[4] <= row[6]


def test_sums_are_the_same_to_the_last_bit_however_users_are_spread(spark: SparkSession, shop: Shop) -> None:
    again = summed(shop.users.repartition(3, "user_index"), shop.facts, MEASURING, 50)
    assert again.keys() == shop.sums.keys()
    assert all((again[name] == shop.sums[name]).all() for name in again)


def test_popularity_age_and_categories_are_counted_before_the_window_alone(spark: SparkSession, shop: Shop) -> None:
    poisoned = [[(e if e[3] < 2 else (e[0] * 7 % 26, PURCHASE, e[2] + DAY, 2)) for e in own] for own in shop.events]
    counted = {row[0]: row for row in counts_before(histories(spark, poisoned), 2, (PURCHASE,)).collect()}
    facts = shop.facts.load()
    before = [[e for e in own if e[3] < 2] for own in shop.events]
    everybody = sum(any(e[1] == PURCHASE for e in own) for own in before)
    for item in range(26):
        buyers = sum(any(e[0] == item and e[1] == PURCHASE for e in own) for own in before)
        times = [e[2] for own in before for e in own if e[0] == item]
        assert facts.popularity[item] == buyers / everybody
        assert facts.surprise[item] == pytest.approx(-np.log2(max(buyers, 1) / everybody))
        assert facts.known[item] == bool(times) == (item in counted)
        assert not times or tuple(counted[item])[3:] == (buyers, min(times))
        days = (CUT - min(times)) / DAY if times else 0
        assert facts.age[item] == (days >= 30) + (days >= 180)


def test_segments_are_of_the_users_with_so_many_events(shop: Shop) -> None:
    rows = {row[:6]: row for row in Results(shop.sums, MEASURING, 0.95).segments()}
    whole = {row[:4]: row for row in Results(shop.sums, MEASURING, 0.95).metrics()}
    activity = {n: sum(e[3] < 2 for e in own) for n, own in enumerate(shop.events)}
    assert min(activity.values()) < 4 <= 8 <= max(activity.values())
    parts = [rows["gru", "allow", "user_activity", segment, "ndcg", 3] for segment in ("new", "light", "heavy")]
    total = whole["gru", "allow", "ndcg", 3]
    assert sum(part[9] for part in parts) == total[7]
    assert sum(part[6] * part[9] for part in parts) / total[7] == pytest.approx(total[4], abs=1e-8)


def test_recall_in_a_stratum_counts_the_relevant_items_of_it_alone(shop: Shop) -> None:
    facts = shop.facts.load()
    rows = {row[:6]: row for row in Results(shop.sums, MEASURING, 0.95).segments()}
    for number, name in enumerate(("head", "mid", "tail")):
        recalls = []
        for n in range(40):
            wanted = {item for item in wanted_of(shop, n, "allow") if facts.stratum[item] == number}
            if wanted:
                listed = shop.lists.get(("fused", "allow", n), [])[:3]
                recalls.append(len(wanted & set(listed)) / min(3, len(wanted)))
        row = rows["fused", "allow", "item_popularity", name, "recall", 3]
        assert (row[6], row[9]) == (pytest.approx(np.mean(recalls), abs=1e-8), len(recalls))


def test_popularity_lift_compares_lists_with_their_users_own_history(shop: Shop) -> None:
    facts = shop.facts.load()
    own, listed, novelty = [], [], []
    for n, events in enumerate(shop.events):
        items = shop.lists.get(("gru", "drop", n))
        if items is None or not any(e[3] == 2 for e in events):
            continue
        novelty.append(np.mean(facts.surprise[items[:6]]))
        bought = {e[0] for e in events if e[3] < 2 and e[1] == PURCHASE}
        if bought:
            own.append(np.mean(facts.popularity[list(bought)]))
            listed.append(np.mean(facts.popularity[items[:6]]))
    found = {row[:4]: row for row in Results(shop.sums, MEASURING, 0.95).metrics()}
    lift = found["gru", "drop", "popularity_lift", 6]
    assert (lift[4], lift[7]) == (pytest.approx(np.mean(listed) / np.mean(own) - 1, abs=1e-7), len(own))
    assert found["gru", "drop", "novelty", 6][4] == pytest.approx(np.mean(novelty), abs=1e-7)
    assert ("silent", "allow", "novelty", 6) not in found


def test_fused_is_compared_with_all_and_all_with_popularity(shop: Shop) -> None:
    results = Results(shop.sums, MEASURING, 0.95)
    rows = {row[:5]: row for row in results.comparisons("fused")}
    pairs = {key[:2] for key in rows}
    assert pairs == {
        ("fused", "popularity"),
        ("fused", "gru"),
        ("fused", "silent"),
        ("gru", "popularity"),
        ("silent", "popularity"),
    }
    values = {row[:4]: row[4] for row in results.metrics()}
    row = rows["gru", "popularity", "drop", "recall", 6]
    difference = values["gru", "drop", "recall", 6] - values["popularity", "drop", "recall", 6]
    assert row[5] == pytest.approx(difference, abs=1e-12)
    assert row[6] <= row[5] <= row[7]
    assert 0 < row[8] <= 1


def test_gini_and_coverage_are_those_of_sorted_counts(shop: Shop) -> None:
    found = {row[:4]: row[4] for row in exposure_metrics(shop.lists_frame, 26, KS).collect()}
    for model in MODELS[:3]:
        for k in KS:
            counts = defaultdict(int)
            for (name, mode, _), items in shop.lists.items():
                if (name, mode) == (model, "allow"):
                    for item in items[:k]:
                        counts[item] += 1
            x = np.sort([counts.get(item, 0) for item in range(26)])
            pairs = np.abs(x[:, None] - x[None, :]).sum() / (2 * 26 * x.sum())  # the mean difference's definition
            assert found[model, "allow", "gini", k] == pytest.approx(pairs * 26 / 25)
            assert found[model, "allow", "coverage", k] == pytest.approx(np.mean(x > 0))


def test_logged_exposures_are_estimated_in_the_same_pass(spark: SparkSession, shop: Shop) -> None:
    """Two exposures of the fused list's own items at their places, one of which was bought within the day."""
    buyer, bought, at = next(
        (n, e[0], e[2]) for n, own in enumerate(shop.events) for e in own if e[3] == 2 and e[1] == PURCHASE
    )
    listed = shop.lists["fused", "allow", 7][0]
    rows = [
        (f"u{buyer}", bought, 1, 0.5, at - 10),
        ("u7", listed, 1, 0.25, CUT + 30 * DAY),
        ("u7", -1, 2, 0.25, CUT + 30 * DAY),
    ]
    shown = spark.createDataFrame(rows, "user_id string, item_index int, rank int, propensity double, time bigint")
    lists = shop.lists_frame.where(f"user_id <> 'u{buyer}'").unionByName(
        spark.createDataFrame([("fused", "allow", f"u{buyer}", 1, f"i{bought}", 0.0)], shop.lists_frame.schema)
    )
    measuring = replace(MEASURING, logged=Logged(DAY, None, True))
    users = users_with_lists(shop.histories, lists, shop.items, measuring, 20, shown)
    found = {row[:4]: row for row in Results(summed(users, shop.facts, measuring, 20), measuring, 0.95).metrics()}
    assert found["fused", "allow", "ips", 3][4] == pytest.approx((1 / 0.5) / 3)
    assert found["fused", "allow", "snips", 3][4] == pytest.approx(2 / (2 + 4))
    assert found["fused", "allow", "ips_weight", 3][4] == pytest.approx(6 / 3)
    assert found["fused", "allow", "ips_sample", 3][4] == pytest.approx(36 / 20)
    assert found["fused", "allow", "ips", 3][7] == 2
    assert ("silent", "allow", "snips", 3) not in found
    assert found["silent", "allow", "ips", 3][4] == 0
