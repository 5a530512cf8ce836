"""The planted shop's catalogue, and what stage fit_features says of it: the items of a group share their words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.config.features import Features
from recsys_spark.features.fitted import FittedFeatures
from recsys_spark.features.item_features import Codes
from recsys_spark.features.subwords import WordPiece
from recsys_spark.features.text import Vocabulary

CATEGORIES = ("bakery", "dairy", "garden", "music")
WORDS = (("rye", "loaf", "crust"), ("aged", "milk", "curd"), ("seed", "leaf", "bloom"), ("brass", "chord", "tune"))
BRANDS = ("north", "south")
SETTINGS = Features(max_tokens=8, max_subwords=10)
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

TABLES = {
    "item_features": ("category_code", "brand_code", "price_band", "price", "events"),
    "item_tokens": ("tokens", "subwords"),
    "item_keywords": ("keywords", "weights", "tfidf_tokens", "tfidf_weights"),
}


def described(group: int, number: int) -> dict[str, object]:
    """What the catalogue says of an item: two words of its group in the title, and its group's category."""
    words = WORDS[group]
    return {
        "item_id": f"g{group}-{number}",
        "title": f"{words[number % 3].title()} {words[(number + 1) % 3]}",
        "description": None,
        "category": CATEGORIES[group].title(),
        "brand": BRANDS[number % 2],
        "price": 1.0 + 10 * group + number % 4,
    }


def word_pieces() -> WordPiece:
    """A tokenizer of the catalogue's words."""
    words = sorted({word for group in WORDS for word in group} | {*CATEGORIES, *BRANDS})
    return WordPiece((*PIECES, *words))


def write_features(
    folder: Path, pairs: Sequence[tuple[int, int]], indices: Sequence[int], sold: Sequence[int], cut: int
) -> Path:
    """A version directory as stage fit_features commits it, for the fits `select` and `test`, of the given items."""
    items = pa.RecordBatch.from_pylist(
        [described(*pair) for pair in pairs],
        pa.schema([(name, pa.string()) for name in ("item_id", "title", "description", "category", "brand")]).append(
            pa.field("price", pa.float64())
        ),
    )
    for fit in ("select", "test"):
        fitted = _fitted(fit, pairs, cut)
        fitted.save(folder / "features" / fit)
        known = fitted.describe_items(items)
        columns = {
            **dict(zip(known.schema.names, known.columns, strict=True)),
            "fit": pa.array([fit] * len(pairs)),
            "item_index": pa.array(indices, pa.int32()),
            "item_id": items.column("item_id"),
            "price": items.column("price"),
            "events": pa.array(sold, pa.int64()),
        }
        for table, names in TABLES.items():
            (folder / table).mkdir(exist_ok=True)
            kept = ["fit", "item_index", "item_id", *names]
            pq.write_table(pa.table([columns[name] for name in kept], kept), folder / table / f"part-{fit}.parquet")
    return folder


def _fitted(fit: str, pairs: Sequence[tuple[int, int]], cut: int) -> FittedFeatures:
    texts = [" ".join(str(part) for part in described(*pair).values()).lower().split() for pair in pairs]
    words = {word for group in WORDS for word in group} | {*CATEGORIES, *BRANDS}
    counts = Counter(word for text in texts for word in words & set(text))
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    vocabulary = Vocabulary(
        tuple(word for word, _ in ordered), np.array([count for _, count in ordered], dtype=np.int64), len(pairs)
    )
    return FittedFeatures(
        fit=fit,
        cut=cut,
        folds=(0,),
        targets=(4,),
        settings=SETTINGS,
        vocabulary=vocabulary,
        categories=Codes(CATEGORIES),
        brands=Codes(BRANDS),
        price_edges=np.array([10.0, 20.0, 30.0]),
        token_vectors=_directions(vocabulary.size, 8),
        item_ids=(),
        item_vectors=np.zeros((0, 8), dtype=np.float32),
        subwords=word_pieces(),
    )


def _directions(count: int, width: int) -> np.ndarray:
    """[count, width] vectors of length 1."""
    drawn = np.random.default_rng(1).standard_normal((count, width)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def write_bert(folder: Path) -> Path:
    """A BERT that has read nothing, of the catalogue's words, as Hugging Face keeps one."""
    transformers = pytest.importorskip("transformers")
    pieces = word_pieces().pieces
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=SETTINGS.max_subwords,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return folder
