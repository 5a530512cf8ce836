"""From the newest published lists to the online store: the model, the histories and the lists, a portion at a time.

Memory holds the ids of all items and a portion of users; tables are read as Arrow record batches, one row group at a
time.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fusion.model import FUSION
from recsys_spark.online.history import batch_event_ids
from recsys_spark.online.live_model import kind_of
from recsys_spark.online.opening import online_folder
from recsys_spark.online.served_models import FOLDER, forget_models, keep_model, lists_model
from recsys_spark.online.store import ListRow, OnlineStore, Publication, StoredEvent, StoredList, UserState
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.runs import Tracker

STAGE = "fuse_recommendations"
ROWS_AT_ONCE = 4096
"""Rows of a record batch: users with their histories, or rows of lists."""


@dataclass(frozen=True)
class Published:
    """What became of it."""

    publication: Publication
    new: bool
    """False where the store held it already."""
    users: int
    """Users that were loaded; 0 where it is not new."""


def publish_batch(store: OnlineStore, config: Config, workspace: Workspace, tracker: Tracker) -> Published:
    """Load the newest commit of fuse_recommendations into the store, unless it is what serves.

    Raises UserError where there is none, or its model or tables are gone; StoreError where the store fails.
    """
    commit = workspace.require(STAGE)
    directory = lists_model(workspace, tracker, commit, online_folder(config) / "scratch")
    before = store.publication()
    folder = online_folder(config) / FOLDER
    model_path, manifest = keep_model(directory, folder)
    content = _content(commit, manifest, store.max_history)
    if before is not None and before.content == content and before.model_path == str(model_path):
        return Published(before, False, 0)
    publication = Publication(
        number=before.number + 1 if before is not None else 1,
        model=commit.facts["served_model_version"],
        model_path=str(model_path),
        as_of=_as_of(commit),
        k=commit.facts.get("k", config.fusion.k),  # not in commits before there was a store
        repeats=commit.facts.get("repeats", config.fusion.repeats),
        made_at=time.time(),
        content=content,
        event_weights=json.loads((model_path / FUSION).read_text(encoding="utf-8"))["event_weights"],
        manifest=manifest,
    )
    datasets, features = (
        workspace.version(stage, commit.inputs[stage]) for stage in ("build_datasets", "build_features")
    )
    item_ids = _item_ids(features.path("item_ids"))
    count = 0

    def histories() -> Iterator[UserState]:
        nonlocal count
        for state in history_states(datasets.path("histories"), item_ids, store.max_history):
            count += 1
            yield state

    store.publish(publication, chain(histories(), list_states(commit.path("recommendations"), publication)))
    forget_models(folder, {publication.model_path, before.model_path if before is not None else ""})
    return Published(publication, True, count)


def history_states(table: Path, item_ids: npt.NDArray[np.object_], max_history: int) -> Iterator[UserState]:
    """A state for each row of the table `histories`, the history cut to its newest events."""
    names = ("user_id", "user_index", "items", "event_types", "weights", "times")
    for batch in _record_batches(table, names, ROWS_AT_ONCE // 8):
        flat = {name: batch.column(name).flatten().to_numpy(zero_copy_only=False) for name in names[2:]}
        offsets = batch.column("items").offsets.to_numpy()
        offsets = offsets - offsets[0]
        users = zip(batch.column("user_id").to_pylist(), batch.column("user_index").to_pylist(), strict=True)
        for row, (user_id, user_index) in enumerate(users):
            cut = max(0, int(offsets[row + 1] - offsets[row]) - max_history)
            own = slice(int(offsets[row]) + cut, int(offsets[row + 1]))
            events = zip(
                batch_event_ids(cut, cut + own.stop - own.start),
                item_ids[flat["items"][own]].tolist(),
                map(EVENT_TYPES.__getitem__, flat["event_types"][own].tolist()),
                flat["weights"][own].tolist(),
                flat["times"][own].astype(np.float64).tolist(),
                strict=True,
            )
            yield UserState(user_id, tuple(map(StoredEvent._make, events)), dropped=cut, user_index=user_index)


def list_states(table: Path, publication: Publication) -> Iterator[UserState]:
    """A state with the list alone for each user of the table `recommendations`.

    Raises UserError where a user's rows are not together and in the order of their ranks, as the job writes them, or
    are of another model than the publication's.
    """
    for fragment in ds.dataset(table, format="parquet").get_fragments():
        for user_id, rows in groupby(_list_rows(Path(fragment.path), publication.model), key=itemgetter("user_id")):
            made = tuple(_list_row(row) for row in rows)
            if [row.rank for row in made] != list(range(1, len(made) + 1)):
                raise UserError(f"table {table}: the rows of user {user_id!r} are not in order; run the job again")
            names = (name for row in made for name in row.components)
            kind = kind_of(names)
            stored = StoredList(
                made, publication.model, publication.number, made_at=publication.made_at, source="batch", kind=kind
            )
            yield UserState(user_id, list=stored)


def _list_rows(file: Path, model: str) -> Iterator[dict[str, Any]]:
    names = ("user_id", "rank", "item_id", "score", "reason", "components", "model_version")
    for batch in _record_batches(file, names, ROWS_AT_ONCE):
        for row in batch.to_pylist():
            if row["model_version"] != model:
                raise UserError(
                    f"table {file}: holds lists of {row['model_version']}, not of {model}; run the job again"
                )
            yield row


def _list_row(row: dict[str, Any]) -> ListRow:
    return ListRow(row["rank"], row["item_id"], row["score"], row["reason"], dict(row["components"]))


def _record_batches(path: Path, names: tuple[str, ...], rows: int) -> Iterator[pa.RecordBatch]:
    """The columns in portions, without reading ahead."""
    dataset = ds.dataset(path, format="parquet")
    yield from dataset.to_batches(
        columns=list(names), batch_size=rows, batch_readahead=1, fragment_readahead=1, use_threads=False
    )


def _item_ids(table: Path) -> npt.NDArray[np.object_]:
    """The id of each item by its global index; None between."""
    found = ds.dataset(table, format="parquet").to_table(columns=["item_id", "item_index"])
    indices = found["item_index"].to_numpy()
    ids = np.full(int(indices.max(initial=0)) + 1, None, dtype=object)
    ids[indices] = found["item_id"].to_numpy()
    return ids


def _content(commit: Commit, manifest: str, max_history: int) -> str:
    """Hash of what a publication is made from; a run that changes nothing gives the same."""
    told = [commit.facts["lists_key"], manifest, max_history]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _as_of(commit: Commit) -> float:
    assert commit.as_of is not None, "lists are dated"
    return datetime.fromisoformat(commit.as_of).replace(tzinfo=UTC).timestamp()
