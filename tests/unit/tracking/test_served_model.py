"""How the registered model looks users up."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from recsys_spark.tracking.served_model import ServedModel


@pytest.fixture
def served(model_directory, histories, tmp_path):
    reference = tmp_path / "histories.json"
    reference.write_text(json.dumps({"path": str(histories), "as_of": "2024-03-01T00:00:00"}))
    model = ServedModel()
    model.load_context(SimpleNamespace(artifacts={"model": str(model_directory), "histories": str(reference)}))
    return model


def test_a_stored_history_comes_back_in_ids_with_ages_counted_from_the_models_date(served):
    found = served._looked_up(["anna", "nobody"])
    assert set(found) == {"anna"}
    assert list(found["anna"].item_ids) == ["dates"]
    assert list(found["anna"].event_types) == ["purchase"]
    assert list(found["anna"].ages_days) == [10.0]


def test_rows_keep_their_index(served):
    frame = pd.DataFrame({"history": [["ale"], ["bread"]]}, index=[7, 3])
    answer = served.predict(None, frame, {"k": 2, "repeats": "drop"})
    assert answer.index.tolist() == [7, 3]
    assert answer["item_ids"].tolist() == [["dates", "cheese"], ["dates", "cheese"]]


def test_no_rows_give_no_rows(served):
    assert served.predict(None, pd.DataFrame({"user_id": []}), None).shape == (0, 4)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"user_id": ["anna", 5]}), "user_id of row 1 is a int; give a string"),
        (pd.DataFrame({"history": ["ale"]}), "history of row 0 is a str; give a list of item ids, oldest first"),
        (
            pd.DataFrame({"history": [[1]]}),
            "history of row 0 holds something that is no string; give a list of item ids",
        ),
        ([["ale"]], "the input is a list; give a DataFrame with a column user_id or history"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_line(served, frame, message):
    with pytest.raises(MlflowException) as raised:
        served.predict(None, frame, None)
    assert str(raised.value) == message
