"""The content file of a fit: what item encoders read of its items, from what stage fit_features says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from recsys_spark.config.neural import Neural
from recsys_spark.errors import UserError
from recsys_spark.features.fitted import FittedFeatures, loaded
from recsys_spark.fitting.inputs import FitInputs, coded_rows
from recsys_spark.fitting.reading import read_texts
from recsys_spark.models.content import BertSettings, Content, ContentSizes
from recsys_spark.models.language_model import directory_sha256, read_directory

ATTRIBUTES = ("category_code", "brand_code", "price_band")
TEXTS = ("tokens", "subwords")


@dataclass(frozen=True)
class FitContent:
    """A written content file, and what of it a composition names."""

    path: str
    version: str
    sizes: ContentSizes
    bert: BertSettings | None


def write_content(inputs: FitInputs, settings: Neural, path: Path) -> FitContent:
    """Write the content of the fit's items, by the fit's own features, so that nothing of the future reaches it.

    Item-sized: the driver holds the codes of all items and their distinct texts. Where a language model reads them, it
    does so here, once: see `reading.read_texts`.
    """
    fitted = loaded(str((inputs.described / "features" / inputs.fit).absolute()))
    bert = bert_settings(inputs, settings, fitted) if "bert" in settings.item_encoder else None
    attributes = inputs.item_table("item_features", *ATTRIBUTES)
    content = gather(inputs.num_items, attributes, inputs.item_table("item_tokens", *TEXTS), fitted)
    if bert is not None:
        cache = inputs.cache or inputs.output.parent
        content = read_texts(content, replace(bert, lora_rank=0), cache / "language_models", inputs.progress)
    if settings.id_start == "histories":
        content = replace(content, item_vectors_I=item_vectors(inputs, fitted))
    sizes = ContentSizes(
        categories=len(fitted.categories.values),
        brands=len(fitted.brands.values),
        price_bands=len(fitted.price_edges) + 1,
        vocabulary=fitted.vocabulary.size,
        word_dim=fitted.token_vectors.shape[1],
        filters=settings.filters,
    )
    return FitContent(str(path.absolute()), content.save(path), sizes, bert)


def item_vectors(inputs: FitInputs, fitted: FittedFeatures) -> torch.Tensor:
    """The vectors [I + 1, E] of the fit's items that its histories gave, zeros where an item had too few events."""
    vectors = np.zeros((inputs.num_items + 1, fitted.settings.word2vec.dim), dtype=np.float32)
    for batch in inputs.item_table("item_vectors", "sequence_vector"):
        column = batch.column("sequence_vector")
        known = batch.column("code").to_numpy()[column.is_valid().to_numpy(zero_copy_only=False)] + 1
        vectors[known] = column.drop_null().flatten().to_numpy().reshape(len(known), vectors.shape[1])
    return torch.from_numpy(vectors)


def bert_settings(inputs: FitInputs, settings: Neural, fitted: FittedFeatures) -> BertSettings:
    """The language model of the folder `features.tokenizer`.

    Raises UserError where there is none, or another than the features were fitted with.
    """
    folder = inputs.config.features.tokenizer
    if folder is None or fitted.subwords is None:
        raise UserError(f"models: {inputs.name} reads subwords; set features.tokenizer to the folder of a BERT model")
    config = read_directory(folder)
    if len(fitted.subwords.pieces) > int(config["vocab_size"]):
        raise UserError(f"features.tokenizer {folder}: its tokenizer has more pieces than its model; restore it")
    return BertSettings(
        path=str(Path(folder).absolute()),
        sha256=directory_sha256(Path(folder)),
        width=int(config["hidden_size"]),
        lora_rank=settings.lora_rank,
        lora_items=settings.lora_items,
    )


def content_of(features: Path, fit: str, item_index: NDArray[np.int64]) -> Content:
    """Content of any items of the tables of stage fit_features, in the order given, as one of its fits describes them.

    `features` is the stage's version directory. For items that the fit never saw: what `extended` takes.
    """
    codes = np.full(int(item_index.max(initial=0)) + 1, -1, dtype=np.int32)
    codes[item_index] = np.arange(len(item_index))
    attributes = coded_rows(features / "item_features", fit, codes, *ATTRIBUTES)
    texts = coded_rows(features / "item_tokens", fit, codes, *TEXTS)
    return gather(len(item_index), attributes, texts, loaded(str((features / "features" / fit).absolute())))


def gather(
    num_items: int, attributes: Iterable[pa.RecordBatch], texts: Iterable[pa.RecordBatch], fitted: FittedFeatures
) -> Content:
    """Content of items numbered by `code`; unknown codes and the empty text for those that have no row."""
    codes = {name: np.zeros(num_items + 1, dtype=np.int64) for name in ATTRIBUTES}
    for batch in attributes:
        rows = batch.column("code").to_numpy() + 1
        for name, values in codes.items():
            values[rows] = batch.column(name).to_numpy()
    words = _Texts(num_items, np.zeros(fitted.settings.max_tokens, dtype=np.int32))
    pieces = None
    if fitted.subwords is not None:
        pieces = _Texts(num_items, fitted.subwords.encode([""], fitted.settings.max_subwords)[0])
    for batch in texts:
        rows = batch.column("code").to_numpy() + 1
        words.add(rows, batch.column("tokens"))
        if pieces is not None:
            pieces.add(rows, batch.column("subwords"))
    named: dict[str, Any] = {}
    named["texts_I"], named["words_TW"], _ = words.tensors(padding=0)
    if pieces is not None and fitted.subwords is not None:
        tensors = pieces.tensors(padding=fitted.subwords.ids["[PAD]"])
        named |= dict(zip(("subtexts_I", "subwords_SW", "lengths_S"), tensors, strict=True))
    return Content(
        categories_I=torch.from_numpy(codes["category_code"]),
        brands_I=torch.from_numpy(codes["brand_code"]),
        price_bands_I=torch.from_numpy(codes["price_band"]),
        word_vectors=torch.from_numpy(fitted.token_vectors.copy()),
        **named,
    )


class _Texts:
    """Distinct texts, and which one each item has. What is held grows with the distinct texts, not with the items."""

    def __init__(self, num_items: int, empty: NDArray[np.int32]) -> None:
        self._numbers = {empty.tobytes(): 0}
        self._empty = empty
        self._text_I = np.zeros(num_items + 1, dtype=np.int64)

    def add(self, rows: NDArray[np.int64], texts: pa.ListArray) -> None:
        """The texts of items, all padded to one length."""
        if not len(rows):
            return
        table = texts.flatten().to_numpy().reshape(len(rows), -1).astype(np.int32)
        numbers = self._numbers
        self._text_I[rows] = [numbers.setdefault(text.tobytes(), len(numbers)) for text in table]

    def tensors(self, padding: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The text [I + 1] of each item, the texts [T, W] in order, the empty one first, and their lengths [T]."""
        empty = self._empty.tobytes()
        ordered = [empty, *sorted(self._numbers.keys() - {empty})]  # not in the order in which files were read
        place = np.empty(len(ordered), dtype=np.int64)
        place[[self._numbers[text] for text in ordered]] = np.arange(len(ordered))
        table = np.frombuffer(b"".join(ordered), dtype=np.int32).reshape(len(ordered), -1)
        lengths = (table != padding).sum(axis=1)
        width = max(1, int(lengths.max()))
        texts = torch.from_numpy(np.ascontiguousarray(table[:, :width]).copy())
        return torch.from_numpy(place[self._text_I]), texts, torch.from_numpy(lengths)
