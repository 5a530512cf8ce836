"""An earlier network in a new fit's numbering: items by their index, categories, brands and words by their name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from recsys_spark.features.fitted import FittedFeatures
from recsys_spark.features.item_features import Codes
from recsys_spark.features.text import Vocabulary as Words
from recsys_spark.fitting.start import Start, alike, first_fitting, moved_codes, moved_items, write_start
from recsys_spark.models.composition import Composition
from recsys_spark.models.content import BertSettings, ContentSizes
from recsys_spark.recommenders.bundle import write_bundle
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.training.tensor_file import write_tensors
from tests.contract.catalogue import SETTINGS

SIZES = ContentSizes(categories=2, brands=1, price_bands=2, vocabulary=5, word_dim=2, filters=4)
NETWORK = Composition(
    user_encoder="mean", item_encoders=("id", "attributes", "kim_cnn"), loss="bce", dim=2, num_items=2, max_length=5
)


def vocabulary(path: Path, items: dict[str, int]) -> Path:
    """A vocabulary file: item ids with their index, codes in the order of ids."""
    names = sorted(items)
    columns = {"code": range(len(names)), "item_index": [items[name] for name in names]}
    table = pa.table({**{name: pa.array(values, pa.int32()) for name, values in columns.items()}, "item_id": names})
    pq.write_table(table.append_column("title", table["item_id"]), path)
    return path


def fitted(categories: str, brands: str, words: str, edges: int) -> FittedFeatures:
    return FittedFeatures(
        fit="publish",
        cut=0,
        folds=(0,),
        targets=(4,),
        settings=SETTINGS,
        vocabulary=Words(tuple(words), np.ones(len(words), dtype=np.int64), 3),
        categories=Codes(tuple(categories)),
        brands=Codes(tuple(brands)),
        price_edges=np.arange(1.0, edges + 1),
        token_vectors=np.zeros((len(words) + 2, 2), dtype=np.float32),
        item_ids=(),
        item_vectors=np.zeros((0, 2), dtype=np.float32),
    )


def test_an_item_is_known_by_its_index_wherever_its_code_moved(tmp_path: Path) -> None:
    old = Vocabulary.load(vocabulary(tmp_path / "old", {"b": 7, "d": 3, "e": 9}))
    new = Vocabulary.load(vocabulary(tmp_path / "new", {"a": 12, "b": 7, "c": 11, "d": 3}))
    assert moved_items(old, new).tolist() == [0, 2, 4, -1]  # b, d, and e, which is gone


def test_codes_and_words_are_known_by_name_and_price_bands_by_number() -> None:
    old, new = fitted("xy", "n", "pqr", edges=1), fitted("yzx", "mn", "rsp", edges=1)
    moved = moved_codes(old, new)
    named = {name.rpartition(".")[2]: places.tolist() for name, places in moved.items()}
    assert named == {
        "category": [0, 3, 1],
        "brand": [0, 2],
        "price_band": [0, 1, 2],
        "words": [0, 1, 4, -1, 2],
    }
    other = moved_codes(old, fitted("yzx", "mn", "rsp", edges=2))
    assert other["item_encoder.parts.attributes.price_band"].tolist() == [0, -1, -1]


BERT = BertSettings(path="a", sha256="s", width=4)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"num_items": 9, "num_users": 4, "dropout": 0.5, "loss": "bpr"}, True),
        ({"content": replace(SIZES, categories=9, vocabulary=99)}, True),
        ({"bert": replace(BERT, path="b")}, True),
        ({"dim": 4}, False),
        ({"item_encoders": ("id",)}, False),
        ({"user_encoder": "gru"}, False),
        ({"content": replace(SIZES, filters=8)}, False),
        ({"content": None}, False),
        ({"bert": replace(BERT, sha256="t")}, False),
    ],
)
def test_networks_are_alike_where_they_differ_in_what_grows_alone(changes: dict[str, object], same: bool) -> None:
    old = replace(NETWORK, content=SIZES, bert=BERT)
    assert alike(old, replace(old, **changes)) is same  # type: ignore[arg-type]


def test_a_start_has_every_table_in_the_new_order(tmp_path: Path) -> None:
    had = vocabulary(tmp_path / "had", {"b": 7, "d": 3})
    new = vocabulary(tmp_path / "new", {"a": 12, "b": 7, "c": 11, "d": 3})
    old = replace(NETWORK, content=SIZES)
    write_bundle(tmp_path / "bundle", {"composition": old.as_dict()}, {"none": torch.zeros(1)}, had)
    parts = "item_encoder.parts"
    parameters = {
        f"{parts}.id.weight": torch.tensor([[0.0, 0], [7, 7], [3, 3]]),
        "item_bias.weight": torch.tensor([[0.0], [0.7], [0.3]]),
        f"{parts}.attributes.category": torch.tensor([[0.0, 0], [1, 1], [2, 2]]),
        f"{parts}.kim_cnn.words": torch.tensor([[0.0, 0], [1, 1], [2, 2], [3, 3], [4, 4]]),
        "user_side.encoder.mix": torch.tensor([5.0]),
    }
    sha256 = write_tensors(tmp_path / "parameters", parameters)
    fitted("xy", "n", "pqr", 1).save(tmp_path / "features" / "old")
    fitted("yx", "n", "rp", 1).save(tmp_path / "features" / "new")
    start = Start("recsys-fused/4", tmp_path / "bundle", tmp_path / "parameters", sha256, tmp_path / "features" / "old")
    assert first_fitting([start], replace(old, dim=4)) is None
    assert first_fitting([start], replace(old, num_items=4)) is start
    written = write_start(start, replace(old, num_items=4), new, tmp_path / "features" / "new", tmp_path / "start")
    assert (written.name, written.known_items) == ("recsys-fused/4", 2)
    tensors = load_file(written.path)
    assert tensors["whole.user_side.encoder.mix"].tolist() == [5.0]
    rows = {name: tensors[f"rows.{name}"].tolist() for name in parameters if f"rows.{name}" in tensors}
    values = {name: tensors[f"values.{name}"][:, 0] for name in rows}
    assert rows == {
        f"{parts}.id.weight": [0, 2, 4],
        "item_bias.weight": [0, 2, 4],
        f"{parts}.attributes.category": [0, 2, 1],
        f"{parts}.kim_cnn.words": [0, 1, 3, 2],
    }
    assert values[f"{parts}.id.weight"].tolist() == [0, 7, 3]
    assert values[f"{parts}.kim_cnn.words"].tolist() == [0, 1, 2, 4]
