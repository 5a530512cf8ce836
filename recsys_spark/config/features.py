"""The configuration of item and user features."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recsys_spark.config.allowed import LocalPath
from recsys_spark.config.section import NotNegative, Positive, Section, Share


class Word2Vec(Section):
    """Vectors of items by the items they are bought or seen beside, and of words by the words they stand beside."""

    dim: Annotated[int, Field(gt=0, le=1024)] = 64
    """Width of the vectors."""
    window: Annotated[int, Field(gt=0, le=100)] = 5
    """Farthest neighbour in a history or text; one at distance d counts `window - d + 1`."""
    min_count: Positive = 5
    """Events that an item must have to get a vector from histories."""
    max_items: Annotated[int, Field(gt=0, le=1_000_000)] = 50_000
    """Items that get a vector from histories: those with most events; the driver holds them."""
    max_pairs: Annotated[int, Field(gt=0, le=100_000_000)] = 5_000_000
    """Pairs of neighbours that take part: those that count most; the driver holds them, about 100 bytes each."""
    shift: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    """k of the shifted PMI, log k is taken off: the negatives of skip-gram; SVD does best with 1, no shift."""
    smoothing: Share = 0.75
    """Power of a neighbour's frequency in its share, which draws the PMI of rare neighbours down."""
    singular_power: NotNegative = 0.5
    """Power of the singular values by which the dimensions are scaled: 0 alike, 1 as in the matrix."""


class Features(Section):
    """Features of items and users, fitted on training time."""

    vocabulary_size: Annotated[int, Field(gt=2, le=1_000_000)] = 20_000
    """Token ids, 0 (padding) and 1 (unknown) among them: the tokens that stand in most items; the driver holds them."""
    max_tokens: Annotated[int, Field(gt=0, le=10_000)] = 64
    """Tokens kept of an item's text; a shorter text is padded with 0."""
    min_token_length: Positive = 2
    """Letters and digits that a token has at least; an ideograph is a token by itself."""
    stop_words: tuple[str, ...] = ()
    """Words that are no tokens, however they are capitalised."""
    keywords: Positive = 10
    """Keywords of an item: its tokens of the highest TF-IDF."""
    tokenizer: LocalPath | None = None
    """Folder of a Hugging Face model with a WordPiece tokenizer (`vocab.txt` or `tokenizer.json`), such as BERT's; with
    it items get subwords."""
    max_subwords: Annotated[int, Field(gt=2, le=10_000)] = 64
    """Subwords of an item, [CLS] and [SEP] among them; shorter ones are padded."""
    max_categories: Positive = 1000
    """Categories that get a code of their own: those with most items; the others share 0."""
    max_brands: Positive = 10_000
    """Brands that get a code of their own: those with most items; the others share 0."""
    price_bands: Annotated[int, Field(gt=0, le=1000)] = 10
    """Price bands, of about as many items each."""
    user_categories: Positive = 5
    """Categories named in a user's mix: those of the largest shares."""
    word2vec: Word2Vec = Word2Vec()
    """Vectors of items and words."""
