"""The registered models' code: MLflow copies this file into the model and runs it to load it ("models from code").

Input rows hold `history` (item ids, oldest first) or `user_id`, whose history is looked up in the histories table. That
table stays where it is: the model holds its path, never what users did. Only this row's users are read from it.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel, RawHistory
from recsys_spark.recommenders.histories import raw_history

MOST_ITEMS = 1000
"""Longest list that may be asked for."""
EMPTY = RawHistory(item_ids=())
logger = logging.getLogger("recsys_spark")


class ServedModel(PythonModel):
    """Answers each row with the items, scores and reasons of one list."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the fused model; its hashes are checked."""
        self.model = FusedModel.load(Path(context.artifacts["model"]))
        reference = json.loads(Path(context.artifacts["histories"]).read_text(encoding="utf-8"))
        self.histories: str | None = reference["path"]
        as_of = datetime.fromisoformat(reference["as_of"]) if reference["as_of"] else datetime.now(UTC)
        self.as_of = as_of.replace(tzinfo=as_of.tzinfo or UTC).timestamp()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row out for each row in: user_id, item_ids, scores, reasons (lists, best first).

        `params`: k (length of the lists) and repeats (`allow` or `drop` what the history holds). Raises MlflowException
        (INVALID_PARAMETER_VALUE) with one line for anything that cannot be answered.
        """
        k, repeats = _checked_params(params or {})
        users, given = _checked_columns(model_input)
        wanted = {user for user, items in zip(users, given, strict=True) if items is None and user is not None}
        found = self._looked_up(sorted(wanted)) if wanted else {}
        rows = [
            RawHistory(item_ids=items) if items is not None else found.get(user or "", EMPTY)
            for user, items in zip(users, given, strict=True)
        ]
        try:
            lists = self.model.recommend_histories(rows, k, repeats)  # type: ignore[arg-type]
        except UserError as error:
            raise _refused(str(error)) from None
        return pd.DataFrame(
            {
                "user_id": pd.Series(users, index=model_input.index, dtype=object),
                "item_ids": pd.Series([[item.item_id for item in row] for row in lists], index=model_input.index),
                "scores": pd.Series([[item.score for item in row] for row in lists], index=model_input.index),
                "reasons": pd.Series([[item.reason for item in row] for row in lists], index=model_input.index),
            }
        )

    def _looked_up(self, users: Sequence[str]) -> dict[str, RawHistory]:
        """The histories of these users; unknown ones are not in the answer."""
        if self.histories is None or not Path(self.histories).is_dir():
            logger.warning("histories %s: not found, so users are answered as if they had none", self.histories)
            return {}
        table = ds.dataset(self.histories, format="parquet").to_table(
            columns=["user_id", "user_index", "items", "event_types", "weights", "times"],
            filter=ds.field("user_id").isin(pa.array(users)),
        )
        return {row["user_id"]: raw_history(row, self.model.vocabulary, self.as_of) for row in table.to_pylist()}


def _checked_params(params: Mapping[str, Any]) -> tuple[int, str | None]:
    k, repeats = params.get("k", 10), params.get("repeats")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= MOST_ITEMS:
        raise _refused(f"params.k is {k!r}; give a whole number from 1 to {MOST_ITEMS}")
    if repeats not in (None, "allow", "drop"):
        raise _refused(f"params.repeats is {repeats!r}; give allow or drop")
    return int(k), repeats


def _checked_columns(frame: pd.DataFrame) -> tuple[list[str | None], list[list[str] | None]]:
    """The users and the given histories of all rows, None where a row has none."""
    if not isinstance(frame, pd.DataFrame):
        raise _refused(f"the input is a {type(frame).__name__}; give a DataFrame with a column user_id or history")
    nothing = [None] * len(frame)
    users = [_user(value, row) for row, value in enumerate(frame["user_id"])] if "user_id" in frame else nothing
    histories = [_history(value, row) for row, value in enumerate(frame["history"])] if "history" in frame else nothing
    if "user_id" not in frame and "history" not in frame:
        raise _refused("the input has neither a column user_id nor a column history; give one of them")
    return list(users), list(histories)


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _user(value: object, row: int) -> str | None:
    if _is_missing(value):
        return None
    if not isinstance(value, str):
        raise _refused(f"user_id of row {row} is a {type(value).__name__}; give a string")
    return value


def _history(value: object, row: int) -> list[str] | None:
    if _is_missing(value):
        return None
    if not isinstance(value, list | tuple | np.ndarray):
        raise _refused(f"history of row {row} is a {type(value).__name__}; give a list of item ids, oldest first")
    items = list(value)
    if not all(isinstance(item, str) for item in items):
        raise _refused(f"history of row {row} holds something that is no string; give a list of item ids")
    return items


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)


mlflow.models.set_model(ServedModel())
