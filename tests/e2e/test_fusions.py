"""The main job with the fusions over candidates, in a shop where what was bought last week is not bought this week."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from recsys_spark.fusion.model import FusedModel
from recsys_spark.recommenders.histories import RawHistory
from recsys_spark.tables.pointer import latest_commit
from tests.e2e.conftest import Finished, read, run_job
from tests.shop import DAYS, GROUPS, ITEMS_A_GROUP, START, USERS, item, write_purchases, write_shop

pytestmark = pytest.mark.slow

MODELS = ("popularity", "repurchase", "item_knn", "gru")
WINDOW = 7
TEST_START = START.date() + timedelta(days=DAYS - WINDOW)
Row = tuple[str, str, datetime, str, int, float]


def fortnightly() -> list[Row]:
    """Each user has four items for the odd weeks and four for the even ones, and now and then a popular one."""
    draw = random.Random(7)
    everything = [item(group, number) for group in range(GROUPS) for number in range(ITEMS_A_GROUP)]
    rows: list[Row] = []
    for user in range(USERS):
        own = draw.sample(everything[4:], 8)
        for week in range(DAYS // 7):
            when = START + timedelta(days=7 * week + user % 6, minutes=draw.randrange(600))
            basket = {*own[:4]} if (week + user) % 2 else {*own[4:]}
            if draw.random() < 0.3:
                basket.add(everything[draw.randrange(4)])
            rows += [(f"C{user:03d}", sku, when, f"N{user:03d}{week:02d}", 1, 2.5) for sku in sorted(basket)]
    return rows


def made(folder: Path, rows: list[Row]) -> Path:
    config = write_shop(folder)
    write_purchases(folder / "landing" / "sales.csv", rows)
    return config


def run(config: Path, method: str) -> Finished:
    settings = (
        f"models=[{','.join(MODELS)}]",
        f"split.test_start={TEST_START}",
        f"split.valid_days={WINDOW}",
        f"fusion.method={method}",
        "fusion.stacked.min_rows_in_leaf=20",
        "fusion.use=challenger",
        "evaluation.bootstrap=100",
    )
    flags = [argument for setting in settings for argument in ("--set", setting)]
    result = run_job("run_pipeline", config, *flags, "--date", str(TEST_START + timedelta(days=WINDOW - 1)))
    assert result.code == 0, result.stderr[-4000:]
    return result


def settled(folder: Path) -> dict[str, str]:
    """The files of the settled fusion."""
    commit = latest_commit(folder / "workspace" / "stages" / "evaluate_models", "evaluate_models")
    assert commit is not None
    return {path.name: path.read_text() for path in commit.path("fusion").iterdir()}


def ndcg(result: Finished) -> dict[str, float]:
    rows = read(result.line["outputs"]["evaluation_metrics"]).to_pylist()
    return {
        row["model"]: row["value"] for row in rows if (row["metric"], row["k"], row["repeats"]) == ("ndcg", 5, "allow")
    }


def check_published(result: Finished) -> None:
    """Full lists whose components add up."""
    lists = defaultdict(list)
    for row in read(result.line["outputs"]["recommendations"]).to_pylist():
        lists[row["user_id"]].append(row["rank"])
        assert sum(value for _, value in row["components"]) == pytest.approx(row["score"], abs=1e-4)
    assert len(lists) == USERS
    assert all(sorted(ranks) == [1, 2, 3, 4, 5] for ranks in lists.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fortnightly") / "shop"


@pytest.fixture(scope="module")
def stacked(folder: Path) -> Finished:
    return run(made(folder, fortnightly()), "stacked")


def test_stacking_sees_what_is_due_and_no_weighted_sum_does(stacked: Finished, folder: Path) -> None:
    files = settled(folder)
    assert json.loads(files["settings.json"])["allow"]["method"] == "stacked"
    assert "stacked-allow.trees.txt" in files
    values = ndcg(stacked)
    assert values["fused"] > max(values[name] for name in MODELS) + 0.2
    check_published(stacked)


def test_the_registered_model_serves_what_was_published(stacked: Finished, folder: Path) -> None:
    commit = latest_commit(folder / "workspace" / "stages" / "fuse_recommendations", "fuse_recommendations")
    assert commit is not None
    model = FusedModel.load(commit.path("model"))
    published = defaultdict(list)
    for row in read(stacked.line["outputs"]["recommendations"]).to_pylist():
        published[row["user_id"]].append((row["rank"], row["item_id"]))
    end = datetime(TEST_START.year, TEST_START.month, TEST_START.day) + timedelta(days=WINDOW)
    histories = defaultdict(list)
    for user, sku, when, *_ in sorted(fortnightly(), key=lambda row: row[2]):
        histories[user].append((sku, (end - when.replace(second=0)).total_seconds() / 86400))
    users = sorted(published)
    raw = [RawHistory([i for i, _ in histories[u]], ages_days=[age for _, age in histories[u]]) for u in users]
    lists = model.recommend_histories(raw, 5)
    same = [
        [row.item_id for row in rows] == [name for _, name in sorted(published[user])]
        for user, rows in zip(users, lists, strict=True)
    ]
    assert sum(same) >= 0.95 * len(users)  # gru rounds otherwise in another batch


def test_the_future_reaches_neither_trees_nor_lists(stacked: Finished, folder: Path, tmp_path: Path) -> None:
    """All from test_start on is replaced; the trees, the weights and the evaluated lists must not move a bit."""
    past = [row for row in fortnightly() if row[2].date() < TEST_START]
    later = [row for row in fortnightly() if row[2].date() >= TEST_START]
    poison = [(user, item(n % 4, n % 12), when, f"X{n}", 50, 900.0) for n, (user, _, when, *_) in enumerate(later)]
    poison += [(f"STRANGER-{n}", item(0, 0), START + timedelta(days=DAYS - 3), f"Y{n}", 1, 1.0) for n in range(300)]
    result = run(made(tmp_path / "poisoned", past + poison), "stacked")
    assert settled(tmp_path / "poisoned") == settled(folder)
    before, after = (_lists(each) for each in (stacked, result))
    common = set(before) & set(after)
    assert len({user for _, _, user in common}) == USERS
    assert all(before[key] == after[key] for key in common)


def _lists(result: Finished) -> dict[tuple[str, str, str], list[tuple[int, str, float]]]:
    lists = defaultdict(list)
    for row in read(result.line["outputs"]["evaluation_recommendations"]).to_pylist():
        lists[row["model"], row["repeats"], row["user_id"]].append((row["rank"], row["item_id"], row["score"]))
    return {key: sorted(rows) for key, rows in lists.items()}


def test_a_cascade_tells_the_recall_and_the_cost_of_its_stages(stacked: Finished, folder: Path) -> None:
    result = run(folder / "shop.yaml", "cascade")
    setting = json.loads(settled(folder)["settings.json"])["allow"]
    assert setting["method"] in ("cascade", "single")
    if setting["method"] == "cascade":
        assert setting["cascade"]["retrieve"] == ["popularity", "repurchase", "item_knn"]
    metrics = result.line["metrics"]
    assert 0.9 < metrics["cascade.retrieve.recall.allow"] <= 1.0
    assert metrics["cascade.score.recall_at_10.allow"] <= metrics["cascade.retrieve.recall.allow"]
    assert metrics["cascade.score.seconds_per_1000_users"] > 0
    check_published(result)
