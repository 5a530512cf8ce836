"""Fitted features on disk, every file checked by its hash when loaded.

A directory holds `fitted.json`, `text.json`, `codes.json`, `items.json`, `vectors.safetensors`, `subwords.json` where a
tokenizer was given, and `manifest.json`, which holds the sha256 of each other file and the version, a sha256 of those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from recsys_spark.config.features import Features
from recsys_spark.errors import UserError
from recsys_spark.features.item_features import Codes, price_bands
from recsys_spark.features.keywords import Weights, tfidf
from recsys_spark.features.subwords import WordPiece
from recsys_spark.features.text import FIRST_TOKEN, Tokens, Vocabulary, item_texts, stop_list, words
from recsys_spark.features.word2vec import unit
from recsys_spark.json_files import read_object

FORMAT = 1
MANIFEST, VECTORS = "manifest.json", "vectors.safetensors"
ITEM_COLUMNS = (
    "tokens array<int>, subwords array<int>, keywords array<string>, weights array<float>, tfidf_tokens array<int>, "
    "tfidf_weights array<float>, text_vector array<float>, sequence_vector array<float>, category_code int, "
    "brand_code int, price_band int"
)
ITEM_NAMES = [column.split()[0] for column in ITEM_COLUMNS.split(", ")]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FittedFeatures:
    """What a fit learned of its items, by which any item is described."""

    fit: str
    """select, test or publish."""
    cut: int
    """End of the fit's events, epoch seconds."""
    folds: tuple[int, ...]
    """Folds of histories that it was fitted on."""
    targets: tuple[int, ...]
    """Codes of the event types that are targets."""
    settings: Features
    """The configuration; its tokenizer is in `subwords`."""
    vocabulary: Vocabulary
    categories: Codes
    brands: Codes
    price_edges: npt.NDArray[np.float64]
    """Prices at which the bands from 2 on begin."""
    token_vectors: Floats
    """[vocabulary.size, D] of length 1, or zeros."""
    item_ids: tuple[str, ...]
    """[M] items with a vector from histories, in order."""
    item_vectors: Floats
    """[M, D] of length 1."""
    subwords: WordPiece | None = None

    def save(self, directory: Path) -> str:
        """Write into the new directory, the manifest last; returns the version. Equal content gives equal bytes."""
        directory.mkdir(parents=True)
        contents: dict[str, Any] = {
            "fitted.json": {
                "format": FORMAT,
                "fit": self.fit,
                "cut": self.cut,
                "folds": list(self.folds),
                "targets": list(self.targets),
                "settings": self.settings.model_dump(mode="json", exclude={"tokenizer"}),
            },
            "text.json": {
                "documents": self.vocabulary.documents,
                "tokens": list(self.vocabulary.tokens),
                "frequencies": self.vocabulary.frequencies.tolist(),
            },
            "codes.json": {
                "categories": list(self.categories.values),
                "brands": list(self.brands.values),
                "price_edges": self.price_edges.tolist(),
            },
            "items.json": list(self.item_ids),
        }
        if self.subwords is not None:
            contents["subwords.json"] = self.subwords.to_json()
        for name, content in contents.items():
            text = json.dumps(content, indent=0, ensure_ascii=False, sort_keys=True)
            (directory / name).write_text(text, encoding="utf-8")
        save_file({"items": self.item_vectors, "tokens": self.token_vectors}, directory / VECTORS)
        files = {name: _sha256(directory / name) for name in sorted([*contents, VECTORS])}
        version = _version(files)
        manifest = json.dumps({"files": files, "version": version}, indent=1, sort_keys=True)
        (directory / MANIFEST).write_text(manifest, encoding="utf-8")
        return version

    @classmethod
    def load(cls, directory: Path) -> FittedFeatures:
        """The features at `directory`. Raises UserError where a file is missing, extra or changed."""
        read_version(directory, verify=True)
        read = {path.name: json.loads(path.read_text("utf-8")) for path in directory.glob("*.json")}
        fitted, text, codes = read["fitted.json"], read["text.json"], read["codes.json"]
        if fitted["format"] != FORMAT:
            raise UserError(f"features {directory}: format {fitted['format']} is not {FORMAT}; run fit_features again")
        vectors = load_file(directory / VECTORS)
        frequencies = np.array(text["frequencies"], dtype=np.int64)
        return cls(
            fit=fitted["fit"],
            cut=fitted["cut"],
            folds=tuple(fitted["folds"]),
            targets=tuple(fitted["targets"]),
            settings=Features.model_validate(fitted["settings"]),
            vocabulary=Vocabulary(tuple(text["tokens"]), frequencies, text["documents"]),
            categories=Codes(tuple(codes["categories"])),
            brands=Codes(tuple(codes["brands"])),
            price_edges=np.array(codes["price_edges"], dtype=np.float64),
            token_vectors=vectors["tokens"],
            item_ids=tuple(read["items.json"]),
            item_vectors=vectors["items"],
            subwords=WordPiece.from_json(read["subwords.json"]) if "subwords.json" in read else None,
        )

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """The token ids of texts."""
        least = self.settings.min_token_length
        return self.vocabulary.encode([words(text, least, self._stop_words) for text in texts])

    def text_vectors(self, weights: Weights) -> Floats:
        """[T, D] the mean of each text's token vectors, weighed by TF-IDF, at length 1; zeros where none is known."""
        return unit(weights.matrix(self.vocabulary.size) @ self.token_vectors)

    def describe_items(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """ITEM_COLUMNS of a batch of items (item_id, title, description, category, brand, price)."""
        texts = item_texts(batch)
        tokens = self.text_tokens(texts)
        weights = tfidf(tokens, self.vocabulary)
        best = weights.strongest(self.settings.keywords)
        names = pa.array(self.vocabulary.tokens, pa.string()).take(pa.array(best.ids - FIRST_TOKEN))
        rows = np.array([self._rows.get(item, -1) for item in batch.column("item_id").to_pylist()], dtype=np.int64)
        vectors = self.item_vectors[rows[rows >= 0]]
        by_text = self.text_vectors(weights)
        worded = by_text.any(axis=1)
        length = self.settings.max_subwords
        subwords = self.subwords.encode(texts, length) if self.subwords else np.zeros((0, length), dtype=np.int32)
        price = batch.column("price").to_numpy(zero_copy_only=False).astype(np.float64)
        columns = [
            _fixed(tokens.padded(self.settings.max_tokens), np.ones(len(texts), dtype=np.bool_)),
            _fixed(subwords, np.full(len(texts), self.subwords is not None)),
            _lists(best.offsets, names),
            _lists(best.offsets, pa.array(best.values)),
            _lists(weights.offsets, pa.array(weights.ids, pa.int32())),
            _lists(weights.offsets, pa.array(weights.values)),
            _fixed(by_text[worded], worded),
            _fixed(vectors, rows >= 0),
            pa.array(self.categories.of(batch.column("category").to_pylist())),
            pa.array(self.brands.of(batch.column("brand").to_pylist())),
            pa.array(price_bands(price, self.price_edges)),
        ]
        return pa.RecordBatch.from_arrays(columns, ITEM_NAMES)

    @cached_property
    def _stop_words(self) -> frozenset[str]:
        return stop_list(self.settings.stop_words)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}


@lru_cache(maxsize=4)
def loaded(directory: str) -> FittedFeatures:
    """The features at a directory, held once by each Python worker (paths are never reused)."""
    return FittedFeatures.load(Path(directory))


def read_version(directory: Path, verify: bool = False) -> str:
    """The version of the features at a directory; with `verify` only if every file is as it was written.

    Raises UserError where it is not.
    """
    try:
        manifest = read_object(directory / MANIFEST)
        files, version = dict(manifest["files"]), str(manifest["version"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"features {directory}: {MANIFEST} is missing or damaged; run fit_features again") from None
    if not verify:
        return version
    present = {path.name for path in directory.iterdir()} - {MANIFEST}
    changed = sorted(present ^ set(files)) or [name for name in files if _sha256(directory / name) != files[name]]
    if changed or version != _version(files):
        named = ", ".join(changed or [MANIFEST])
        raise UserError(f"features {directory}: {named} changed since it was written; run fit_features again")
    return version


def _version(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lists(offsets: npt.NDArray[np.int64], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _fixed(matrix: npt.NDArray[Any], present: npt.NDArray[np.bool_]) -> pa.Array:
    """A list for each entry of `present`: the next row of the matrix where it is true, else null."""
    ends = np.concatenate([[0], np.cumsum(present)]) * matrix.shape[1]
    offsets = pa.array(ends, pa.int32(), mask=np.r_[~present, False])
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(matrix).ravel()))
