"""Item text as tokens, and the vocabulary that numbers them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.catalogue import DESCRIBED

PAD, UNKNOWN, FIRST_TOKEN = 0, 1, 2
"""Token ids: padding, a token outside the vocabulary, and where the vocabulary begins."""
LONGEST = 64
"""A longer run of letters is no word: it is left out, so that a vocabulary's size has a bound."""
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ebef\U0002f800-\U0002fa1f"
"""Ideographs, which are written without blanks between words; the ranges are those of BERT's tokeniser."""
KINDS = ("token", "category", "brand")
Batches = Iterable[pa.RecordBatch]
Ints = npt.NDArray[np.int64]


def normalise(text: str) -> str:
    """Compatibility forms and letter case made one (NFKC_Casefold of Unicode 3.13, R5), without blanks around."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded).strip()


def stop_list(stop_words: Iterable[str]) -> frozenset[str]:
    """Stop words as `words` takes them: normalised like the tokens that they are compared with."""
    return frozenset(normalise(word) for word in stop_words)


def words(text: str, min_length: int = 1, stop_words: frozenset[str] = frozenset()) -> list[str]:
    """The runs of letters (with their marks) and digits of a text, normalised; each ideograph is a word of its own.

    `stop_words`, as of `stop_list`, are left out.
    """
    found = _pattern().findall(normalise(text))
    return [
        word for word in found if (min_length <= len(word) <= LONGEST or _is_ideograph(word)) and word not in stop_words
    ]


def _is_ideograph(word: str) -> bool:
    return len(word) == 1 and re.match(f"[{HAN}]", word) is not None


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    # `\w` has no combining marks, without which words of many scripts would fall apart.
    marks = [point for point in range(0x300, 0x20000) if unicodedata.category(chr(point)).startswith("M")]
    ranges = ""
    for _, group in groupby(enumerate(marks), lambda pair: pair[1] - pair[0]):
        run = [point for _, point in group]
        ranges += f"{chr(run[0])}-{chr(run[-1])}"
    return re.compile(f"[{HAN}]|(?:(?![{HAN}])[^\\W_][{ranges}]*)+")


def item_texts(batch: pa.RecordBatch) -> list[str]:
    """Title, description, category and brand of each item in one line; a title that is only the id says nothing."""
    ids = batch.column("item_id").to_pylist()
    fields = [batch.column(name).to_pylist() for name in DESCRIBED]
    fields[0] = [None if title == item else title for title, item in zip(fields[0], ids, strict=True)]
    return [" ".join(filter(None, texts)) for texts in zip(*fields, strict=True)]


@dataclass(frozen=True)
class Tokens:
    """Token ids of a batch of texts."""

    ids: Ints
    """[N] ids of all texts, one after the other; UNKNOWN for a token outside the vocabulary."""
    offsets: Ints
    """[T+1]: text t owns ids offsets[t] to offsets[t+1]."""

    @property
    def rows(self) -> Ints:
        """[N] the text of each id."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def padded(self, length: int) -> npt.NDArray[np.int32]:
        """[T, length] the first ids of each text, PAD behind them."""
        table = np.full((len(self.offsets) - 1, length), PAD, dtype=np.int32)
        place = np.arange(len(self.ids)) - self.offsets[self.rows]
        kept = place < length
        table[self.rows[kept], place[kept]] = self.ids[kept]
        return table


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a fit's items, those of most items first; token v has the id v + FIRST_TOKEN."""

    tokens: tuple[str, ...]
    """[V]."""
    frequencies: Ints
    """[V] items of the fit that a token stands in."""
    documents: int
    """Items of the fit."""

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Token to id."""
        return {token: place + FIRST_TOKEN for place, token in enumerate(self.tokens)}

    @property
    def size(self) -> int:
        """Ids, padding and unknown among them."""
        return len(self.tokens) + FIRST_TOKEN

    @cached_property
    def idf(self) -> npt.NDArray[np.float64]:
        """[size] smoothed inverse document frequency ln((1 + n) / (1 + df)) + 1, as scikit-learn's; 0 for ids 0, 1."""
        known = np.log((1 + self.documents) / (1 + self.frequencies)) + 1
        return np.concatenate([np.zeros(FIRST_TOKEN), known])

    def encode(self, texts: Sequence[Sequence[str]]) -> Tokens:
        """The ids of tokenised texts."""
        lookup = self.ids
        ids = [lookup.get(token, UNKNOWN) for text in texts for token in text]
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])
        return Tokens(ids=np.array(ids, dtype=np.int64), offsets=offsets.astype(np.int64))


def count_terms(items: DataFrame, fits: Sequence[str], min_length: int, stop_words: frozenset[str]) -> DataFrame:
    """How many of each fit's items have a token, category or brand: (kind, term, a column for each fit).

    `items(item_id, title, description, category, brand, events_<fit>)`: an item belongs to the fits in which it has
    events, and one that belongs to none counts nowhere.
    """
    counted = items.mapInArrow(
        _count_terms(tuple(fits), min_length, stop_words),
        "kind string, term string, member int, count bigint",
    )
    sums = [
        F.sum(F.when(F.col("member").bitwiseAND(1 << place) > 0, F.col("count")).otherwise(0)).alias(fit)
        for place, fit in enumerate(fits)
    ]
    return counted.groupBy("kind", "term").agg(*sums)


def _count_terms(fits: Sequence[str], min_length: int, stop_words: frozenset[str]) -> Callable[[Batches], Batches]:
    def count(batches: Batches) -> Batches:
        for batch in batches:
            counters: Counter[tuple[str, str, int]] = Counter()
            labels = [batch.column(kind).to_pylist() for kind in KINDS[1:]]
            for member, text, *label in zip(_membership(batch, fits), item_texts(batch), *labels, strict=True):
                if not member:
                    continue
                counters.update(("token", word, member) for word in set(words(text, min_length, stop_words)))
                named = zip(KINDS[1:], label, strict=True)
                counters.update((kind, normalise(value), member) for kind, value in named if value)
            kinds, terms, of = zip(*counters, strict=True) if counters else ((), (), ())
            columns = [
                pa.array(kinds, pa.string()),
                pa.array(terms, pa.string()),
                pa.array(of, pa.int32()),
                pa.array(counters.values(), pa.int64()),
            ]
            yield pa.RecordBatch.from_arrays(columns, ["kind", "term", "member", "count"])

    return count


def _membership(batch: pa.RecordBatch, fits: Sequence[str]) -> list[int]:
    """Of each item a bit for each fit, the first one lowest: has it events in it."""
    bits = np.zeros(batch.num_rows, dtype=np.int64)
    for place, fit in enumerate(fits):
        bits |= (batch.column(f"events_{fit}").to_numpy() > 0).astype(np.int64) << place
    found: list[int] = bits.tolist()
    return found


def top_terms(counts: DataFrame, kind: str, fit: str, limit: int) -> list[tuple[str, int]]:
    """The terms of most items with their counts, at most `limit`, ties by the term: all that comes to the driver."""
    rows = (
        counts.where((F.col("kind") == kind) & (F.col(fit) > 0))
        .orderBy(F.col(fit).desc(), F.col("term").asc())
        .limit(limit)
        .select("term", fit)
        .toArrow()
    )
    return list(zip(rows["term"].to_pylist(), rows[fit].to_pylist(), strict=True))
