"""BERT's subwords: basic tokenisation and WordPiece, from the tokenizer files of a Hugging Face folder.

The rules are those of `tokenization.py` in google-research/bert: clean the text, put blanks around ideographs, lower
the case and drop accents (uncased models), split at blanks and punctuation, and cut each word greedily into the longest
pieces of the vocabulary (Devlin et al. 2019, Wu et al. 2016).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys_spark.errors import UserError
from recsys_spark.features.text import HAN

LONGEST_WORD = 100
"""A longer word is [UNK], as in BERT."""


@dataclass(frozen=True)
class WordPiece:
    """A WordPiece tokenizer."""

    pieces: tuple[str, ...]
    """The vocabulary; a piece's place is its id."""
    lowercase: bool = True
    """Lower the case of the text."""
    strip_accents: bool = True
    """Drop accents."""

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Piece to id."""
        return {piece: place for place, piece in enumerate(self.pieces)}

    def tokenize(self, text: str) -> list[str]:
        """The text's pieces; those within a word begin with ##."""
        return [piece for word in self._words(text) for piece in self._pieces(word)]

    def encode(self, texts: Sequence[str], length: int) -> npt.NDArray[np.int32]:
        """[T, length] input ids: [CLS], the text's first pieces, [SEP], and [PAD] behind."""
        first, last = self.ids["[CLS]"], self.ids["[SEP]"]
        table = np.full((len(texts), length), self.ids["[PAD]"], dtype=np.int32)
        for row, text in enumerate(texts):
            ids = [first, *[self.ids[piece] for piece in self.tokenize(text)[: length - 2]], last]
            table[row, : len(ids)] = ids
        return table

    def _words(self, text: str) -> list[str]:
        kept = "".join(_cleaned(character) for character in text)
        spaced = unicodedata.normalize("NFC", re.sub(f"([{HAN}])", r" \1 ", kept))
        if self.lowercase:
            spaced = spaced.lower()
        if self.strip_accents:
            decomposed = unicodedata.normalize("NFD", spaced)
            spaced = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
        return "".join(f" {character} " if _is_punctuation(character) else character for character in spaced).split()

    def _pieces(self, word: str) -> list[str]:
        if len(word) > LONGEST_WORD:
            return ["[UNK]"]
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self.ids), None)
            if end is None:
                return ["[UNK]"]
            pieces.append(prefix + word[start:end])
            start = end
        return pieces

    def to_json(self) -> dict[str, Any]:
        """The tokenizer as JSON."""
        return {"pieces": list(self.pieces), "lowercase": self.lowercase, "strip_accents": self.strip_accents}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WordPiece:
        """The tokenizer that `to_json` told."""
        return cls(tuple(content["pieces"]), content["lowercase"], content["strip_accents"])

    @classmethod
    def from_folder(cls, folder: Path) -> WordPiece:
        """The tokenizer of a Hugging Face folder: `tokenizer.json`, else `vocab.txt` with `tokenizer_config.json`.

        Raises UserError where there is none, where it is no WordPiece, or where it lacks a special token.
        """
        where = f"features.tokenizer {folder}"
        try:
            if (folder / "tokenizer.json").is_file():
                tokenizer = _from_tokenizer_json(json.loads((folder / "tokenizer.json").read_text("utf-8")), where)
            else:
                tokenizer = _from_vocabulary(folder)
        except FileNotFoundError:
            raise UserError(f"{where}: has no tokenizer.json and no vocab.txt; name a BERT model's folder") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{where}: the tokenizer cannot be read ({error}); fetch the model again") from None
        missing = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if name not in tokenizer.ids]
        if missing:
            raise UserError(f"{where}: the vocabulary lacks {', '.join(missing)}; name the folder of a BERT model")
        return tokenizer


def _from_tokenizer_json(content: Mapping[str, Any], where: str) -> WordPiece:
    model, normalizer = content["model"], content.get("normalizer") or {}
    if model.get("type", "WordPiece") != "WordPiece" or normalizer.get("type") != "BertNormalizer":
        raise UserError(f"{where}: tokenizer.json is not BERT's WordPiece; name a BERT model's folder")
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if [model["vocab"][piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError("ids have gaps")
    lowercase = bool(normalizer.get("lowercase", True))
    accents = normalizer.get("strip_accents")
    return WordPiece(tuple(pieces), lowercase, lowercase if accents is None else bool(accents))


def _from_vocabulary(folder: Path) -> WordPiece:
    pieces = (folder / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n")
    settings = folder / "tokenizer_config.json"
    config = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
    lowercase = bool(config.get("do_lower_case", True))
    accents = config.get("strip_accents")
    stripped = lowercase if accents is None else bool(accents)
    return WordPiece(tuple(piece.removesuffix("\r") for piece in pieces), lowercase, stripped)


def _cleaned(character: str) -> str:
    if character in "\t\n\r":
        return " "
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    return "" if category.startswith("C") or character == "\ufffd" else character


def _is_punctuation(character: str) -> bool:
    """Unicode's punctuation, and every ASCII sign that is no letter, digit or blank."""
    ascii_sign = "!" <= character <= "~" and not character.isalnum()
    return ascii_sign or unicodedata.category(character).startswith("P")
