"""What a language model makes of texts, computed once: a file keeps it by text, for later fits and runs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys_spark.models.content import BertSettings, Content
from recsys_spark.models.language_model import LanguageModel
from recsys_spark.tables.files import new_file

TELL_SECONDS = 10.0
"""A progress line comes so often."""
Vectors = dict[bytes, NDArray[np.float32]]


def read_texts(content: Content, settings: BertSettings, cache: Path, progress: Callable[[str], None]) -> Content:
    """The content with `pooled_SH`, what the language model as it came makes of each text.

    Texts that the file in the folder `cache` has are taken from there, the others are computed on the driver (on its
    GPU where it has one) and added to it; what was computed is kept also where the rest fails.
    """
    assert content.subwords_SW is not None
    assert content.lengths_S is not None
    path = cache / f"{settings.sha256[:32]}-{settings.width}.safetensors"
    known = _read(path)
    keys = _keys(content)
    missing = torch.tensor([row for row, key in enumerate(keys) if key not in known], dtype=torch.int64)
    if missing.numel():
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = LanguageModel(settings).to(device)
        subwords, lengths = content.subwords_SW[missing].to(device), content.lengths_S[missing].to(device)
        done, told = 0, time.monotonic()
        try:
            for rows, vectors in model.pooled_batches(subwords, lengths, {}):
                places = missing[rows.cpu()].tolist()
                known |= zip((keys[place] for place in places), vectors.float().cpu().numpy(), strict=True)
                done += len(places)
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    progress(f"language model: {done:,} of {missing.numel():,} texts read")
        finally:
            _write(path, known)
        progress(f"language model: {missing.numel():,} texts read, {len(keys) - missing.numel():,} were known")
    pooled = np.stack([known[key] for key in keys])
    return replace(content, pooled_SH=torch.from_numpy(pooled))


def _keys(content: Content) -> list[bytes]:
    """A name for each text: a hash of its subwords without padding."""
    assert content.subwords_SW is not None
    assert content.lengths_S is not None
    table, lengths = content.subwords_SW.numpy(), content.lengths_S.tolist()
    return [
        hashlib.blake2b(table[row, :length].tobytes(), digest_size=16).digest() for row, length in enumerate(lengths)
    ]


def _read(path: Path) -> Vectors:
    """What the file holds; nothing where it is missing or not as it was written."""
    try:
        with safe_open(path, framework="numpy") as archive:
            keys, vectors = archive.get_tensor("keys"), archive.get_tensor("vectors")
            if (archive.metadata() or {}).get("sha256") != _sha256(keys, vectors):
                return {}
    except (OSError, SafetensorError, FileNotFoundError):
        return {}
    return dict(zip((key.tobytes() for key in keys), vectors, strict=True))


def _write(path: Path, known: Vectors) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(-1, 16).copy()
    vectors = np.stack(tuple(known.values())) if known else np.zeros((0, 1), dtype=np.float32)
    with new_file(path) as file:
        save_file({"keys": keys, "vectors": vectors}, file, metadata={"sha256": _sha256(keys, vectors)})


def _sha256(keys: NDArray[np.uint8], vectors: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(json.dumps([keys.shape, vectors.shape]).encode())
    for array in (keys, vectors):
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()
