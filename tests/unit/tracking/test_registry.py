"""Registered models load in a fresh process, without Spark, and answer users and raw histories."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import mlflow
import pandas as pd
import pytest

import recsys_spark
from recsys_spark.tracking.registry import pinned_versions, register, registered_versions, update_card

NAME = "recsys-fused"
FRESH = """
import json, sys
sys.modules["pyspark"] = None  # a server of models has no Spark
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/recsys-fused@challenger")

def ask(columns, **params):
    try:
        return model.predict(pd.DataFrame(columns), params=params or None).to_dict(orient="list")
    except Exception as error:
        return str(error)

import recsys_spark
print(json.dumps({
    "package": recsys_spark.__file__,
    "default": ask({"history": [["ale"], []]}),
    "drop": ask({"history": [["dates", "cheese"], ["ale", "unheard of"]]}, k=2, repeats="drop"),
    "users": ask({"user_id": ["anna", "nobody"]}, k=1, repeats="drop"),
    "mixed": ask({"user_id": ["anna", None], "history": [None, ["bread"]]}, k=2, repeats="drop"),
    "history_wins": ask({"user_id": ["anna"], "history": [["cheese"]]}, k=4, repeats="drop"),
    "neither": ask({"customer": ["anna"]}),
    "numbers": ask({"user_id": [17]}),
    "text": ask({"history": ["ale"]}),
    "bad_k": ask({"history": [["ale"]]}, k=0),
    "bad_repeats": ask({"history": [["ale"]]}, repeats="maybe"),
}))
"""


def artifact_of(workspace, run):
    (artifact,) = [path.parent for path in workspace.rglob("MLmodel") if run.run_id in path.read_text()]
    return artifact


@pytest.fixture(scope="module")
def registered(tracker, workspace, model_directory, histories, card):
    """A tracker with one registered version, and the artifact folder."""
    tags = {"data_version": "5", "stage.build_datasets": "3", "stage.clean_events": "5"}
    with tracker.start("fused") as run:
        version = register(tracker, run, NAME, model_directory, card, tags, histories, "challenger")
    assert version == "1"
    return tracker, artifact_of(workspace, run)


@pytest.fixture(scope="module")
def answers(registered, tmp_path_factory):
    """What the model answers in a process that has neither this package nor Spark."""
    command = [sys.executable, "-c", FRESH, registered[0].uri]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path_factory.mktemp("home")),
        "MLFLOW_DISABLE_TELEMETRY": "1",
    }
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path_factory.mktemp("cwd"), env=environment, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_nothing_in_the_artifact_is_a_pickle(registered):
    files = [path for path in registered[1].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {
        "",
        ".json",
        ".md",
        ".parquet",
        ".py",
        ".safetensors",
        ".txt",
        ".yaml",
        ".yml",
    }
    assert [path for path in files if path.read_bytes()[:2] in (b"\x80\x03", b"\x80\x04", b"\x80\x05")] == []
    assert "python_model.pkl" not in {path.name for path in files}


def test_the_behaviour_of_users_stays_out_of_the_artifact(registered, histories):
    (reference,) = registered[1].rglob("histories.json")
    assert json.loads(reference.read_text()) == {"path": str(histories), "as_of": "2024-03-01T00:00:00"}
    assert all(b"anna" not in path.read_bytes() for path in registered[1].rglob("*") if path.is_file())


def test_the_artifact_brings_the_package_along(answers, registered):
    assert (registered[1] / "code/recsys_spark/fusion/model.py").is_file()
    assert answers["package"].endswith("code/recsys_spark/__init__.py")


def test_histories_are_answered_best_first(answers):
    assert answers["default"]["item_ids"] == [["dates", "cheese", "bread", "ale"]] * 2
    assert answers["default"]["scores"][0] == sorted(answers["default"]["scores"][0], reverse=True)
    assert all(isinstance(reason, str) and reason for reason in answers["default"]["reasons"][0])
    assert answers["drop"]["item_ids"] == [["bread", "ale"], ["dates", "cheese"]]


def test_users_are_answered_from_their_history_and_unknown_ones_as_if_they_had_none(answers):
    assert answers["users"] == {**answers["users"], "user_id": ["anna", "nobody"], "item_ids": [["cheese"], ["dates"]]}


def test_rows_of_users_and_of_histories_mix(answers):
    assert answers["mixed"]["item_ids"] == [["cheese", "bread"], ["dates", "cheese"]]
    assert answers["mixed"]["user_id"] == ["anna", None]


def test_a_given_history_goes_before_the_users_own(answers):
    assert answers["history_wins"]["item_ids"] == [["dates", "bread", "ale"]]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("neither", "the input has neither a column user_id nor a column history; give one of them"),
        ("bad_k", "params.k is 0; give a whole number from 1 to 1000"),
        ("bad_repeats", "params.repeats is 'maybe'; give allow or drop"),
    ],
)
def test_bad_input_is_refused_in_one_line(answers, case, message):
    assert answers[case] == message


@pytest.mark.parametrize(("case", "column"), [("numbers", "user_id"), ("text", "history")])
def test_a_wrong_type_is_refused_by_the_signature(answers, case, column):
    assert isinstance(answers[case], str)
    assert f"'{column}': " in answers[case]


def test_signature_example_and_requirements_are_stored(registered):
    mlmodel = (registered[1] / "MLmodel").read_text()
    assert '"user_id"' in mlmodel
    assert "input_example" in mlmodel
    requirements = (registered[1] / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in requirements)
    assert not any(line.startswith("pyspark") for line in requirements)


def test_the_version_is_described_tagged_and_aliased(registered, card):
    tracker, _ = registered
    version = tracker.client.get_model_version_by_alias(NAME, "challenger")
    assert version.version in ("1", 1)
    assert version.tags["data_version"] == "5"
    assert "code_version" in version.tags
    assert "| ndcg | 0.2500 |" in version.description
    assert "models:/recsys-fused@challenger" in tracker.client.get_registered_model(NAME).description


def test_a_card_can_be_written_anew(registered, card):
    tracker, _ = registered
    update_card(tracker, NAME, "1", card.__class__(**{**card.__dict__, "metrics": {"test.map_at_10": 0.75}}))
    assert "| map | 0.7500 |" in tracker.client.get_model_version(NAME, "1").description
    update_card(tracker, NAME, "1", card)


def test_what_an_aliased_version_was_made_from_is_pinned(registered, model_directory, card):
    tracker, _ = registered
    with tracker.start("other") as run:  # no alias: nothing holds it
        register(tracker, run, "recsys-other", model_directory, card, {"stage.build_datasets": "1"}, None, None)
    assert pinned_versions(registered[0]) == [("build_datasets", 3), ("clean_events", 5)]
    assert registered_versions(registered[0]) == [(NAME, "challenger", "1")]


def test_a_missing_histories_table_answers_as_for_an_empty_history(tracker, workspace, model_directory, card, tmp_path):
    with tracker.start("fused") as run:
        register(tracker, run, "recsys-gone", model_directory, card, {}, tmp_path / "gone", None)
    model = mlflow.pyfunc.load_model(str(artifact_of(workspace, run)))
    assert model.predict(pd.DataFrame({"user_id": ["anna"]}), params={"k": 1})["item_ids"].tolist() == [["dates"]]


def test_a_model_is_registered_also_where_the_package_runs_from_a_zip(tmp_path, model_directory):
    archive = tmp_path / "recsys_spark.zip"
    package = Path(recsys_spark.__file__).parent
    with zipfile.ZipFile(archive, "w") as file:
        for source in package.rglob("*.py"):
            file.write(source, source.relative_to(package.parent))
    code = f"""
import sys; sys.path.insert(0, {str(archive)!r})
from pathlib import Path
from recsys_spark.config.root import Config
from recsys_spark.tracking import runs, registry, cards
assert ".zip" in registry.__file__
source = dict(format="csv", path="x", columns=dict(user_id="u", item_id="i", event_time="t"), event_type="purchase")
tracker = runs.Tracker(Config(source=source), Path({str(tmp_path)!r}))
card = cards.ModelCard("t", "w", "x", "2024-01-01")
with tracker.start("r") as run:
    registry.register(tracker, run, "recsys-t", Path({str(model_directory)!r}), card, {{}}, None, "challenger")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.rglob("code/recsys_spark/tracking/served_model.py"))) == 1
