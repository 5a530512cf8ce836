"""A tiny BERT of random weights, as a Hugging Face directory."""

from __future__ import annotations

from pathlib import Path

import torch

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "tea", "thing", "group", "of", "green", ",", *"0123456789", "##0", "##1"]


def write_tiny_bert(folder: Path, seed: int = 0) -> Path:
    """Two layers of width 16 over PIECES."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return folder
