"""The main job under business rules, with places drawn for new items, in the small shop."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from recsys_spark.fusion.model import FusedModel
from recsys_spark.recommenders.histories import RawHistory
from recsys_spark.tables.pointer import latest_commit
from tests.e2e.conftest import Finished, read, run_job
from tests.shop import DAYS, START, USERS, item, purchases, write_purchases, write_shop

pytestmark = pytest.mark.slow

END = datetime(START.year, START.month, START.day) + timedelta(days=DAYS)
NEW = [f"NEW-{number}" for number in range(4)]
OUT, BLOCKED, PIN = item(1, 0), item(2, 0), item(3, 11)
MINORS = {f"C{user:03d}" for user in range(0, USERS, 5)}
GROWN_UP = {f"C{user:03d}" for user in range(USERS) if user % 5 and user % 7}
Row = tuple[str, str, datetime, str, int, float]

RULES = """
demographics:
  format: csv
  path: {folder}/people.csv
  options: {{header: "true"}}
  columns: {{user_id: who, age: age}}
rules:
  out_of_stock_file: {folder}/out_of_stock.txt
  blocked_items: [{blocked}]
  interval: {{share: 0.6}}
  caps: {{any: {{at_most: 3}}}}
  pins:
    always: {{item: {pin}, position: 2, segment: regulars}}
    over: {{item: {blocked}, position: 1}}
    last_year: {{item: {pin}, position: 5, to: 2023-12-31}}
  segments:
    regulars: {{min_events: 1}}
    minors: {{attribute: age, values: [child], unknown: true, never_categories: [Group 0]}}
  new_items: {{days: 10}}
  diversity: {{weight: 0.1, vectors: gru}}
  exploration: {{share: 0.2, first_rank: 3}}
models: [popularity, repurchase, item_knn, gru]
evaluation: {{k: [5], bootstrap: 100}}
"""


def bought() -> list[Row]:
    """The shop's purchases, and four items that came a week before the end and were bought by four users each."""
    late = [
        (f"C{user:03d}", NEW[user % 4], END - timedelta(days=6, minutes=user), f"L{user:03d}", 1, 2.5)
        for user in range(16)
    ]
    return [*purchases(), *late]


def write(folder: Path) -> Path:
    config = write_shop(folder)
    write_purchases(folder / "landing" / "sales.csv", bought())
    (folder / "out_of_stock.txt").write_text(f"{OUT}\n\nNEVER-HEARD-OF\n")
    with (folder / "people.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "age"])
        writer.writerows([(who, "Child") for who in sorted(MINORS)] + [(who, "grown up") for who in sorted(GROWN_UP)])
    rules = folder / "rules.yaml"
    rules.write_text(RULES.format(folder=folder, blocked=BLOCKED, pin=PIN))
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ruled") / "shop"


@pytest.fixture(scope="module")
def ruled(folder: Path) -> Finished:
    result = run_job("run_pipeline", write(folder), "--config", str(folder / "rules.yaml"))
    assert result.code == 0, result.stderr[-4000:]
    return result


def lists_of(result: Finished) -> dict[str, list[str]]:
    lists = defaultdict(list)
    for row in sorted(read(result.line["outputs"]["recommendations"]).to_pylist(), key=lambda row: row["rank"]):
        lists[row["user_id"]].append(row["item_id"])
    return lists


def intervals() -> tuple[dict[tuple[str, str], list[int]], dict[str, list[int]], dict[tuple[str, str], datetime]]:
    """Gaps in days of each user and item, of each item, and the last purchases; without the package's code."""
    days: dict[tuple[str, str], set[date]] = defaultdict(set)
    last: dict[tuple[str, str], datetime] = {}
    for who, what, when, *_ in bought():
        days[who, what].add(when.date())
        last[who, what] = max(when, last.get((who, what), when))
    own = {pair: [(b - a).days for a, b in pairwise(sorted(dates))] for pair, dates in days.items()}
    everybody: dict[str, list[int]] = defaultdict(list)
    for (_, what), gaps in own.items():
        everybody[what] += gaps
    return own, everybody, last


OWN, EVERYBODY, LAST = intervals()


def bought_too_lately(user: str, sku: str, slack: float) -> bool:
    """Has less than 0.6 of the interval passed: of the user's own, else of the item's where that has five gaps."""
    gaps = OWN.get((user, sku)) or (EVERYBODY[sku] if len(EVERYBODY[sku]) >= 5 else [])
    if (user, sku) not in LAST or not gaps:
        return False
    return (END - LAST[user, sku]).total_seconds() / 86400 < 0.6 * median(gaps) + slack


def test_every_published_list_keeps_every_rule(ruled: Finished) -> None:
    lists = lists_of(ruled)
    assert len(lists) == USERS
    for user, items in lists.items():
        assert len(items) == len(set(items)) == 5
        assert not {OUT, BLOCKED} & set(items)
        groups = Counter(sku[:5] for sku in items if sku not in NEW)
        assert max(groups.values()) <= 3
        assert items[1] == PIN or bought_too_lately(user, PIN, 0.01)
        assert not any(bought_too_lately(user, sku, -0.01) for sku in items)
        if user not in GROWN_UP:
            assert not any(sku.startswith("SKU-0") for sku in items)
    assert any(sku.startswith("SKU-0") for user in GROWN_UP for sku in lists[user])


def test_components_add_up_and_reasons_say_what_the_shop_put_there(ruled: Finished) -> None:
    for row in read(ruled.line["outputs"]["recommendations"]).to_pylist():
        assert sum(value for _, value in row["components"]) == pytest.approx(row["score"], abs=1e-4)
        if row["item_id"] == PIN and row["rank"] == 2:
            assert row["reason"] == "picked by the shop"


def test_each_place_has_its_propensity_and_a_new_item_is_drawn_for_everybody(ruled: Finished) -> None:
    shown = read(ruled.line["outputs"]["exposures"]).to_pylist()
    published = read(ruled.line["outputs"]["recommendations"]).to_pylist()
    key = ("user_id", "rank", "item_id", "run_id", "generated_at")
    assert {tuple(row[name] for name in key) for row in shown} == {
        tuple(row[name] for name in key) for row in published
    }
    assert {row["policy"] for row in shown} == {"uniform_new share=0.2 candidates=50 first_rank=3 days=10"}
    reasons = {(row["user_id"], row["rank"]): row["reason"] for row in published}
    drawn = [row for row in shown if reasons[row["user_id"], row["rank"]] == "new in the shop"]
    assert len(drawn) == USERS
    assert {row["item_id"] for row in drawn} == set(NEW)
    # One of the places 3 to 5, and one of at most four eligible items.
    chances = [1 / 3 / eligible for eligible in (1, 2, 3, 4)]
    assert all(min(abs(row["propensity"] - chance) for chance in chances) < 1e-9 for row in drawn)
    assert all(row["rank"] >= 3 for row in drawn)
    assert all(row["propensity"] == 1 for row in shown if row["rank"] < 3)


def test_the_lists_under_rules_are_measured_beside_those_without(ruled: Finished) -> None:
    models = {row["model"] for row in read(ruled.line["outputs"]["evaluation_metrics"]).to_pylist()}
    assert {"fused", "fused_with_rules"} <= models
    rows = read(ruled.line["outputs"]["evaluation_recommendations"]).to_pylist()
    assert not [row for row in rows if row["model"] == "fused_with_rules" and row["item_id"] in (OUT, BLOCKED)]
    assert [row for row in rows if row["model"] == "fused" and row["item_id"] in (OUT, BLOCKED)]


def test_the_stored_model_gives_the_published_lists(ruled: Finished, folder: Path) -> None:
    commit = latest_commit(folder / "workspace" / "stages" / "fuse_recommendations", "fuse_recommendations")
    assert commit is not None
    assert {"rules.json", "rules.safetensors"} <= set(
        json.loads((commit.path("model") / "manifest.json").read_text())["files"]
    )
    model = FusedModel.load(commit.path("model"))
    index = {row["user_id"]: row["user_index"] for row in read(ruled.line["outputs"]["user_ids"]).to_pylist()}
    histories = defaultdict(list)
    for user, sku, when, *_ in sorted(bought(), key=lambda row: row[2]):
        histories[user].append((sku, (END - when.replace(second=0)).total_seconds() / 86400))
    published = lists_of(ruled)
    users = sorted(published)
    raw = [
        RawHistory([i for i, _ in histories[u]], ages_days=[age for _, age in histories[u]], user_index=index[u])
        for u in users
    ]
    same = [
        [row.item_id for row in rows] == published[user]
        for user, rows in zip(users, model.recommend_histories(raw, 5), strict=True)
    ]
    assert sum(same) >= 0.9 * len(users)  # gru reads the events of one minute in the file's order, and rounds otherwise


def test_todays_stock_is_what_counts(ruled: Finished, folder: Path) -> None:
    """Another item runs out: the lists are made anew without it, and the one that came back may be in them."""
    gone = Counter(sku for items in lists_of(ruled).values() for sku in items if sku != PIN and sku not in NEW)
    [(missing, _)] = gone.most_common(1)
    (folder / "out_of_stock.txt").write_text(f"{missing}\n")
    result = run_job("run_pipeline", folder / "shop.yaml", "--config", str(folder / "rules.yaml"))
    assert result.code == 0, result.stderr[-4000:]
    stages = {name: stage["status"] for name, stage in result.line["stages"].items()}
    assert (stages["train_models"], stages["fuse_recommendations"]) == ("skipped", "done")
    listed = {sku for items in lists_of(result).values() for sku in items}
    assert missing not in listed
    assert OUT in listed
