"""The main job, from raw files to published recommendations, as its users see it."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from recsys_spark.config import load_config
from recsys_spark.online.opening import open_configured
from recsys_spark.tables.pointer import latest_commit
from tests.e2e.conftest import ROOT, Finished, Shop, read, run_job
from tests.page import ELSEWHERE, Page
from tests.shop import DAYS, START, item, purchases, write_purchases

MODELS = {"popularity", "repurchase", "item_knn", "ease", "mfn", "gru"}
TEST_START = START.date() + timedelta(days=DAYS - 14)


def test_the_last_line_of_stdout_is_the_contracts_json(shop: Shop) -> None:
    line = shop.result.line
    assert {"job", "status", "run_id", "outputs", "metrics", "seconds"} <= set(line)
    assert (line["job"], line["status"]) == ("run_pipeline", "done")
    assert {"clean_events", "quarantine", "recommendations", "evaluation_recommendations"} <= set(line["outputs"])
    assert shop.result.stdout.count("\n") == 1


def test_every_row_of_the_raw_file_is_accounted_for(shop: Shop) -> None:
    metrics = shop.result.line["metrics"]
    assert metrics["rows_in"] == len(purchases())
    assert metrics["rows_in"] == metrics["clean"] + metrics["duplicates"] + metrics["quarantined"]
    assert shop.table("clean_events").num_rows == metrics["clean"]
    assert shop.table("quarantine").num_rows == metrics["quarantined"]


def test_recommendations_have_the_columns_of_the_contract_and_dense_ranks(shop: Shop) -> None:
    table = shop.table("recommendations")
    assert table.column_names == [
        "user_id", "rank", "item_id", "score", "reason", "components", "model_version", "run_id", "generated_at",
    ]  # fmt: skip
    ranks = defaultdict(list)
    for row in table.select(["user_id", "rank", "item_id", "score"]).to_pylist():
        ranks[row["user_id"]].append((row["rank"], row["item_id"], row["score"]))
    assert set(ranks) == {row[0] for row in purchases()}
    for rows in ranks.values():
        rows.sort()
        assert [rank for rank, _, _ in rows] == [1, 2, 3, 4, 5]
        assert len({name for _, name, _ in rows}) == 5
        assert [score for _, _, score in rows] == sorted((score for _, _, score in rows), reverse=True)


def test_recommendations_find_the_users_group(shop: Shop) -> None:
    """User u buys from group u % 4, nine times in ten: so should the lists."""
    rows = shop.table("recommendations").select(["user_id", "item_id"]).to_pylist()
    hits = [row["item_id"].startswith(f"SKU-{int(row['user_id'][1:]) % 4}") for row in rows]
    assert sum(hits) / len(hits) > 0.9


def test_reasons_speak_of_the_users_own_history_and_components_add_up(shop: Shop) -> None:
    titles = defaultdict(set)
    catalogue = {row["item_id"]: row["title"] for row in shop.table("items").to_pylist()}
    for row in purchases():
        titles[row[0]].add(catalogue[row[1]])
    reasons = set()
    for row in shop.table("recommendations").to_pylist():
        assert sum(value for _, value in row["components"]) == pytest.approx(row["score"], abs=1e-5)
        reasons.add(row["reason"].split(" ")[0])
        for start in ("bought with ", "goes with "):
            if row["reason"].startswith(start):
                named = row["reason"].removeprefix(start).removesuffix(", which you chose lately")
                assert named in titles[row["user_id"]], row
    assert "you" in reasons or "bought" in reasons


def test_a_metric_recomputed_by_hand_from_the_evaluated_lists_is_the_reported_one(shop: Shop) -> None:
    """NDCG@10 and recall@10 from the raw rows and the table of lists alone, without the package's code."""
    train = [row for row in purchases() if row[2].date() < TEST_START]
    known = {row[1] for row in train}
    bought, relevant = defaultdict(set), defaultdict(set)
    for row in train:
        bought[row[0]].add(row[1])
    for row in purchases():
        if row[2].date() >= TEST_START and row[1] in known and bought[row[0]]:
            relevant[row[0]].add(row[1])
    lists = defaultdict(dict)
    for row in shop.table("evaluation_recommendations").to_pylist():
        lists[row["model"], row["repeats"], row["user_id"]][row["rank"]] = row["item_id"]
    reported = {
        (row["model"], row["repeats"], row["metric"], row["k"]): row["value"]
        for row in shop.table("evaluation_metrics").to_pylist()
    }
    for model in (*MODELS, "fused"):
        for repeats in ("allow", "drop"):
            gains, recalls = [], []
            for user, items in relevant.items():
                wanted = items - bought[user] if repeats == "drop" else items
                if not wanted:
                    continue
                listed = lists[model, repeats, user]
                hits = [rank for rank in range(1, 11) if listed.get(rank) in wanted]
                ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(10, len(wanted)) + 1))
                gains.append(sum(1 / math.log2(rank + 1) for rank in hits) / ideal)
                recalls.append(len(hits) / min(10, len(wanted)))
            assert reported[model, repeats, "ndcg", 10] == pytest.approx(sum(gains) / len(gains), abs=1e-6)
            assert reported[model, repeats, "recall", 10] == pytest.approx(sum(recalls) / len(recalls), abs=1e-6)


def test_lists_without_repeats_hold_nothing_that_was_bought_before(shop: Shop) -> None:
    bought = {(row[0], row[1]) for row in purchases() if row[2].date() < TEST_START}
    for row in shop.table("evaluation_recommendations").to_pylist():
        if row["repeats"] == "drop":
            assert (row["user_id"], row["item_id"]) not in bought


def test_the_future_does_not_reach_what_is_evaluated(shop: Shop, tmp_path: Path) -> None:
    """Everything from test_start on is replaced by other events; parameters, weights and lists must not move a bit."""
    past = [row for row in purchases() if row[2].date() < TEST_START]
    poison = [
        (customer, f"POISON-{n % 7}", when, f"X{n}", 50, 9.0)
        for n, (customer, _, when, _, _, _) in enumerate(row for row in purchases() if row[2].date() >= TEST_START)
    ]
    poison += [(f"STRANGER-{n}", item(0, 0), START + timedelta(days=DAYS - 3), f"Y{n}", 1, 1.0) for n in range(300)]
    shutil.copytree(shop.folder, tmp_path / "poisoned", ignore=shutil.ignore_patterns("workspace"))
    folder = tmp_path / "poisoned"
    write_purchases(folder / "landing" / "sales.csv", past + poison)
    config = folder / "shop.yaml"
    config.write_text(shop.config.read_text().replace(str(shop.folder), str(folder)))
    result = run_job(
        "run_pipeline",
        config,
        "--set",
        f"split.test_start={TEST_START}",
        "--date",
        str(TEST_START + timedelta(days=13)),
    )
    assert result.code == 0, result.stderr[-4000:]

    for name in MODELS:
        assert _select_manifest(folder, name) == _select_manifest(shop.folder, name), f"{name} saw the future"
    assert _fusion(folder) == _fusion(shop.folder)
    before, after = _lists(shop.result.line["outputs"]), _lists(result.line["outputs"])
    common = set(before) & set(after)
    assert len({user for _, _, user in common}) == 60
    assert all(before[key] == after[key] for key in common)


def _select_manifest(folder: Path, name: str) -> str:
    commit = latest_commit(folder / "workspace" / "stages" / f"train_models.{name}", name)
    assert commit is not None
    return (commit.path("select") / "manifest.json").read_text()


def _fusion(folder: Path) -> str:
    commit = latest_commit(folder / "workspace" / "stages" / "evaluate_models", "evaluate_models")
    assert commit is not None
    return (commit.path("fusion") / "settings.json").read_text()


def _lists(outputs: dict[str, str]) -> dict[tuple[str, str, str], list[tuple[int, str, float]]]:
    lists = defaultdict(list)
    for row in read(outputs["evaluation_recommendations"]).to_pylist():
        lists[row["model"], row["repeats"], row["user_id"]].append((row["rank"], row["item_id"], row["score"]))
    return {key: sorted(rows) for key, rows in lists.items()}


@pytest.fixture(scope="module")
def again(shop: Shop) -> Finished:
    """The same job once more, which this time loads the online store."""
    return run_job("run_pipeline", shop.config, "--set", "online.publish=true")


def test_nothing_runs_again_when_nothing_changed(shop: Shop, again: Finished) -> None:
    assert again.code == 0, again.stderr[-4000:]
    assert {stage["status"] for stage in again.line["stages"].values()} == {"skipped"}
    assert again.line["outputs"] == shop.result.line["outputs"]


def test_the_job_loads_the_online_store_with_what_it_published(shop: Shop, again: Finished) -> None:
    assert again.line["online"] == {"publication": 1, "new": True, "users": 60}
    lists = defaultdict(list)
    for row in shop.table("recommendations").to_pylist():
        lists[row["user_id"]].append((row["rank"], row["item_id"], row["score"], row["reason"]))
    store = open_configured(load_config([str(shop.config)], []))
    states = store.users(list(lists))
    store.close()
    for user, state in states.items():
        assert state.list is not None
        assert [(row.rank, row.item_id, row.score, row.reason) for row in state.list.rows] == sorted(lists[user])
        assert state.events == sum(row[0] == user for row in purchases()), user
    assert len(states) == 60


def test_tables_show_prints_the_path_of_the_newest_version(shop: Shop) -> None:
    command = [sys.executable, "-m", "recsys_spark.tables", "show", "recommendations", "--config", str(shop.config)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == shop.result.line["outputs"]["recommendations"]


FRESH = """
import sys, json
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/recsys-fused@challenger")
by_id = model.predict(pd.DataFrame({"user_id": ["C001", "C002", "nobody"]}), params={"k": 5})
by_history = model.predict(pd.DataFrame({"history": [["SKU-100", "SKU-101"], []]}), params={"k": 5})
print(json.dumps({"ids": by_id.to_dict("records"), "histories": by_history.to_dict("records")}, default=list))
"""


def test_the_registered_model_answers_in_a_fresh_process_as_the_batch_did(shop: Shop, tmp_path: Path) -> None:
    import json

    uri = f"sqlite:///{shop.folder / 'workspace' / 'mlflow.db'}"
    ended = subprocess.run(
        [sys.executable, "-c", FRESH, uri], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    answer = json.loads(ended.stdout.strip().splitlines()[-1])
    batch = defaultdict(dict)
    for row in shop.table("recommendations").to_pylist():
        batch[row["user_id"]][row["rank"]] = (row["item_id"], row["reason"], row["score"])
    for row in answer["ids"][:2]:
        expected = [batch[row["user_id"]][rank] for rank in range(1, 6)]
        assert row["item_ids"] == [name for name, _, _ in expected]
        assert row["reasons"] == [reason for _, reason, _ in expected]
        assert row["scores"] == pytest.approx([score for _, _, score in expected], abs=1e-5)
    assert all(reason.startswith("popular this week (number ") for reason in answer["ids"][2]["reasons"])
    assert all(name.startswith("SKU-1") for name in answer["histories"][0]["item_ids"][:3])
    assert all(reason.startswith("popular this week (number ") for reason in answer["histories"][1]["reasons"])


def test_runs_and_registry_tell_the_whole_story(shop: Shop) -> None:
    from recsys_spark.tracking.runs import Tracker

    client = Tracker(load_config([str(shop.config)]), shop.folder / "workspace").client
    parent = client.get_run(shop.result.line["run_id"])
    assert parent.data.params["models"] == ",".join(load_config([str(shop.config)]).models)
    for name in ("fused", *MODELS):
        version = client.get_model_version_by_alias(f"recsys-{name}", "challenger")
        assert "## How to load it" in version.description
        assert {"stage.build_datasets", "code_version"} <= set(version.tags)
        assert "ndcg" in version.description
    for stage, artifact in (("clean_events", "quality/report.json"), ("evaluate_models", "plots/ndcg.png")):
        commit = latest_commit(shop.folder / "workspace" / "stages" / stage, stage)
        assert commit is not None
        assert client.get_run(commit.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id
        folder = artifact.partition("/")[0]
        assert artifact in {entry.path for entry in client.list_artifacts(commit.run_id, folder)}
    run = client.get_run(client.get_model_version_by_alias("recsys-gru", "challenger").run_id)
    for metric in ("ndcg", "recall", "hit_rate", "map", "mrr", "coverage"):
        assert {f"test.{metric}_at_10", f"test.{metric}_at_10.drop"} <= set(run.data.metrics)
    assert client.get_metric_history(run.info.run_id, "select.valid_ndcg_at_10")


def test_the_report_shows_every_model_and_fifty_users_and_needs_nothing_else(shop: Shop) -> None:
    html = Path(shop.result.line["outputs"]["report.html"]).read_text(encoding="utf-8")
    assert not ELSEWHERE.search(html)
    page = Page(html)
    assert [name for name in ("fused", *MODELS) if name not in page.text] == []
    assert page.text.count("events before; bought in the test window: ") == 50
    ndcg = shop.result.line["metrics"]["test.ndcg_at_10"]
    assert f"{ndcg:.4f}" in page.text
    pictures = ("NDCG@5 by recommender", "Learning curves", "Coverage against accuracy", "Scores of the lists")
    assert [title for title in pictures if title not in page.text] == []
    assert "gru" in next(str(image["alt"]) for image in page.of("img") if "valid NDCG@10" in str(image["alt"]))


def test_generated_at_is_the_runs_date_not_the_clock(shop: Shop) -> None:
    times = set(shop.table("recommendations").column("generated_at").to_pylist())
    assert {time.replace(tzinfo=None) for time in times} == {
        datetime.combine(START.date() + timedelta(days=DAYS), datetime.min.time())
    }
