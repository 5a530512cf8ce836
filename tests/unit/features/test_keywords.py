from __future__ import annotations

import math
import random

import numpy as np
import pytest

from recsys_spark.features.keywords import tfidf
from recsys_spark.features.text import Vocabulary

TEXTS = [["tea", "green", "tea"], ["tea", "pot"], ["cup"], ["unheard"], []]


def vocabulary(texts: list[list[str]]) -> Vocabulary:
    known = sorted({word for text in texts for word in text if word != "unheard"})
    frequencies = np.array([sum(word in text for text in texts) for word in known], dtype=np.int64)
    return Vocabulary(tuple(known), frequencies, len(texts))


def test_weights_follow_the_formula() -> None:
    weights = tfidf(vocabulary(TEXTS).encode(TEXTS), vocabulary(TEXTS))
    tea, green = 2 * (math.log(6 / 3) + 1), math.log(6 / 2) + 1
    length = math.hypot(tea, green)
    # cup 2, green 3, pot 4, tea 5
    assert weights.ids[:2].tolist() == [3, 5]
    assert weights.values[:2] == pytest.approx([green / length, tea / length])
    assert np.diff(weights.offsets).tolist() == [2, 2, 1, 0, 0]


def test_weights_are_those_of_scikit_learn() -> None:
    sklearn_text = pytest.importorskip("sklearn.feature_extraction.text")
    draw = random.Random(3)
    names = [f"w{number}" for number in range(40)]
    texts = [[draw.choice(names) for _ in range(draw.randrange(12))] for _ in range(60)]
    own = vocabulary(texts)
    reference = sklearn_text.TfidfVectorizer(analyzer=lambda text: text, vocabulary=list(own.tokens), norm="l2")
    expected = reference.fit_transform(texts).toarray()
    found = tfidf(own.encode(texts), own).matrix(own.size).toarray()[:, 2:]
    assert np.allclose(found, expected, atol=1e-6)


def test_keywords_are_the_heaviest_tokens_and_ties_go_to_the_token_of_more_items() -> None:
    texts = [["b", "a", "c", "c"], ["d"], ["a", "b"]]
    own = Vocabulary(("a", "b", "c", "d"), np.array([2, 2, 1, 1]), 3)
    best = tfidf(own.encode(texts), own).strongest(2)
    assert best.ids.tolist() == [4, 2, 5, 2, 3]
    assert best.offsets.tolist() == [0, 2, 3, 5]
