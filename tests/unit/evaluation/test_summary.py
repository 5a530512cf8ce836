"""The summary shows what was published, read without Spark."""

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from recsys_spark.evaluation.summary import Published, last_events, main, sampled_users
from recsys_spark.tables.pointer import publish
from recsys_spark.tables.workspace import Workspace

DAY = 86400
CONFIG = """
workspace: {root}
source: {{format: csv, path: x.csv, columns: {{user_id: u, item_id: i, event_time: t}}, event_type: purchase}}
evaluation: {{k: [10], repeats: both}}
"""


def commit(root, stage, **tables):
    workspace = Workspace(str(root))
    run = workspace.new_run_directory(stage, "run")
    for name, rows in tables.items():
        (run / name).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), run / name / "part-0.parquet")
    counts = {name: len(rows) for name, rows in tables.items()}
    nothing = {"inputs": {}, "metrics": {}, "facts": {}, "as_of": None}
    publish(workspace.stage_directory(stage), stage, run, key="k", run_id="run", tables=counts, **nothing)


@pytest.fixture
def root(tmp_path):
    titles = {1: "bread", 2: "milk [1 l]", 3: None}
    items = [{"item_index": index, "item_id": f"i{index}", "title": title} for index, title in titles.items()]
    commit(tmp_path, "build_features", items=items)
    histories = [{"user_id": "anna", "items": [1, 2, 1], "times": [0, DAY, 2 * DAY]}]
    commit(tmp_path, "build_datasets", histories=histories)
    metrics = [
        {
            "model": model,
            "repeats": repeats,
            "metric": "ndcg",
            "k": 10,
            "value": value,
            "low": low,
            "high": 0.75,
            "users": 7,
        }
        for model, repeats, value, low in (
            ("gru", "allow", 0.25, None),
            ("fused", "allow", 0.5, 0.375),
            ("fused", "drop", 0.125, None),
        )
    ]
    commit(tmp_path, "evaluate_models", evaluation_metrics=metrics)
    lists = [
        {"user_id": "anna", "rank": 1, "item_id": "i2", "score": 1.5, "reason": "bought with bread"},
        {"user_id": "anna", "rank": 2, "item_id": "i3", "score": 1.25, "reason": "popular this week"},
    ]
    commit(tmp_path, "fuse_recommendations", recommendations=lists)
    return tmp_path


def summarise(root, capsys):
    file = root / "config.yaml"
    file.write_text(CONFIG.format(root=root), encoding="utf-8")
    code = main(["--config", str(file)])
    return code, capsys.readouterr()


def test_metrics_lists_reasons_paths_and_the_command_are_shown(root, capsys):
    code, output = summarise(root, capsys)
    assert code == 0
    shown = [
        "0.5000 (0.3750-0.7500)",
        "0.2500",
        "0.1250",
        "7 users",
        "1. milk [1 l]",
        "2. i3",
        "bought with bread",
        "stages/evaluate_models/runs",
    ]
    assert [text for text in shown if text not in output.out] == []
    assert output.out.index("fused") < output.out.index("gru")
    assert f"mlflow ui --backend-store-uri sqlite:///{root}/mlflow.db" in output.out


def test_the_report_of_the_evaluation_is_named_where_there_is_one(root, capsys):
    [run] = (root / "stages" / "evaluate_models" / "runs").iterdir()
    (run / "report.html").write_text("<!doctype html>")
    assert str(run / "report.html") in summarise(root, capsys)[1].out


def test_last_events_are_distinct_and_newest_first(root):
    published = Published(Workspace(str(root)))
    assert last_events(published, ds.field("user_id") == "anna") == ["1970-01-03 bread", "1970-01-02 milk [1 l]"]


def test_sampled_users_do_not_depend_on_the_order_of_rows(tmp_path):
    users = [f"u{number}" for number in range(50)]
    samples = []
    for order in (users, users[::-1]):
        root = tmp_path / order[0]
        commit(root, "fuse_recommendations", recommendations=[{"user_id": user, "rank": 1} for user in order])
        samples.append(sampled_users(Published(Workspace(str(root)))))
    assert samples[0] == samples[1]
    assert len(set(samples[0])) == 3


def test_an_empty_workspace_is_one_clear_line(tmp_path, capsys):
    code, output = summarise(tmp_path, capsys)
    assert code == 2
    assert output.err.count("\n") == 1
    assert "jobs/fuse_recommendations.py" in output.err
