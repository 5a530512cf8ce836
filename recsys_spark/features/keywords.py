"""TF-IDF: what words say most of an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys_spark.features.text import FIRST_TOKEN, Tokens, Vocabulary


@dataclass(frozen=True)
class Weights:
    """TF-IDF of a batch of T texts: N entries, by text and then by token id."""

    ids: npt.NDArray[np.int64]
    """[N] token ids, ascending within a text."""
    values: npt.NDArray[np.float32]
    """[N] weights; those of one text have length 1."""
    offsets: npt.NDArray[np.int64]
    """[T+1]."""

    def matrix(self, size: int) -> sp.csr_matrix:
        """[T, size] the weights as a sparse matrix over token ids."""
        return sp.csr_matrix((self.values, self.ids, self.offsets), shape=(len(self.offsets) - 1, size))

    def strongest(self, count: int) -> Weights:
        """The `count` entries of the highest weight of each text, highest first, ties to the smaller id."""
        rows = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        order = np.lexsort((self.ids, -self.values, rows))
        place = np.arange(len(order)) - self.offsets[rows]
        kept = order[place < count]
        lengths = np.minimum(np.diff(self.offsets), count)
        return Weights(self.ids[kept], self.values[kept], np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def tfidf(tokens: Tokens, vocabulary: Vocabulary) -> Weights:
    """Count of a token in the text times its idf, each text scaled to length 1: scikit-learn's TfidfVectorizer.

    Unknown tokens weigh nothing; a text without known ones has no entry.
    """
    texts = len(tokens.offsets) - 1
    known = tokens.ids >= FIRST_TOKEN
    keys, counts = np.unique(tokens.rows[known] * vocabulary.size + tokens.ids[known], return_counts=True)
    rows, ids = keys // vocabulary.size, keys % vocabulary.size
    values = counts * vocabulary.idf[ids]
    length = np.sqrt(np.bincount(rows, weights=values**2, minlength=texts))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=texts))]).astype(np.int64)
    return Weights(ids=ids, values=(values / length[rows]).astype(np.float32), offsets=offsets)
