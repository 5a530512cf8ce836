"""The settings of each recommender: what a user may turn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section

Share = Annotated[float, Field(ge=0, lt=1)]


class Popularity(Section):
    """Time-decayed number of events an item had."""

    half_life_days: PositiveFloat = 7.0
    """Days after which an event counts half."""


class Repurchase(Section):
    """Recency-frequency: what a user bought often and lately, weighed by how often the item is bought again."""

    half_lives_days: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (30.0, 60.0, 120.0, 240.0)
    """Half-lives tried for the decayed frequency; the best on the last part of the parameter window is kept."""
    smoothing: PositiveFloat = 10.0
    """Buyers of prior strength with which an item's share of repeat buyers is drawn to the mean."""


class ItemKNN(Section):
    """Item-based nearest neighbours on BM25-weighted co-occurrence."""

    neighbours: Positive = 100
    """Neighbours kept of each item."""
    max_history: Positive = 500
    """Distinct items of a user that take part: the most recent ones."""
    k1: PositiveFloat = 1.2
    """BM25 saturation of a repeated event."""
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    """BM25 length normalisation."""
    half_life_days: PositiveFloat = 90.0
    """Days after which an event of the history counts half at scoring."""


class Ease(Section):
    """EASE: closed-form item-item regression (Steck 2019) on the most popular items."""

    max_items: Annotated[int, Field(gt=1, le=20000)] = 4000
    """Most popular items that take part; cost grows with its cube, memory with its square (4 bytes each, twice)."""
    l2: PositiveFloat = 200.0
    """Ridge penalty."""
    half_life_days: PositiveFloat = 90.0
    """Days after which an event of the history counts half at scoring."""


class Neural(Section):
    """A recommender composed of a user encoder, an item encoder, a scorer and a loss."""

    user_encoder: Literal["mean", "gru"]
    """How the history becomes a user vector: causal mean of item vectors, or a GRU over them."""
    item_encoder: Literal["id"] = "id"
    """How an item becomes a vector: an embedding of its id."""
    scorer: Literal["dot", "neumf"]
    """How user and item vectors become a score: dot product, or NeuMF's GMF and MLP parts."""
    loss: Literal["full_softmax", "sampled_softmax", "bce"]
    """Full softmax over the catalogue, softmax over shared log-Q corrected negatives, or binary cross-entropy."""
    dim: Positive = 64
    """Width of the item vectors."""
    layers: Positive = 1
    """Layers of the recurrent encoder, or of NeuMF's MLP."""
    dropout: Share = 0.2
    """Dropout share."""
    negatives: Positive = 1024
    """Sampled negatives: shared by a batch (sampled_softmax), or for each position (bce)."""
    negatives_power: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Negatives are drawn in proportion to this power of the items' counts: 0 uniform, 1 popularity."""
    epochs: Positive = 5
    """Most epochs."""
    patience: Positive = 1
    """Epochs without a better valid NDCG@10 after which training stops."""
    batch_size: Positive = 128
    """Sequences in a step, over all processes."""
    learning_rate: PositiveFloat = 0.01
    """Adam's peak learning rate."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    """Steps over which the learning rate rises to its peak."""
    grad_clip: PositiveFloat = 1.0
    """Largest norm of the gradient."""

    @model_validator(mode="after")
    def _fits_together(self) -> Neural:
        if self.scorer == "neumf" and self.loss != "bce":
            raise ValueError("scorer neumf takes loss bce: a softmax over the catalogue needs a dot product")
        if self.scorer == "neumf" and self.dim % 2:
            raise ValueError("scorer neumf splits dim into GMF and MLP halves: dim must be even")
        return self


class MFN(Neural):
    """Matrix factorisation network: NeuMF (He et al. 2017) over the mean of the history's item vectors."""

    user_encoder: Literal["mean", "gru"] = "mean"
    """How the history becomes a user vector: causal mean of item vectors, or a GRU over them."""
    scorer: Literal["dot", "neumf"] = "neumf"
    """How user and item vectors become a score: dot product, or NeuMF's GMF and MLP parts."""
    loss: Literal["full_softmax", "sampled_softmax", "bce"] = "bce"
    """Full softmax over the catalogue, softmax over shared log-Q corrected negatives, or binary cross-entropy."""
    dim: Positive = 32
    """Width of the item vectors: half for GMF, half for the MLP."""
    negatives: Positive = 4
    """Sampled negatives: shared by a batch (sampled_softmax), or for each position (bce)."""
    epochs: Positive = 8
    """Most epochs."""


class GRU(Neural):
    """GRU4Rec (Hidasi and Karatzoglou 2018): a GRU over the history, scored by the dot product."""

    user_encoder: Literal["mean", "gru"] = "gru"
    """How the history becomes a user vector: causal mean of item vectors, or a GRU over them."""
    scorer: Literal["dot", "neumf"] = "dot"
    """How user and item vectors become a score: dot product, or NeuMF's GMF and MLP parts."""
    loss: Literal["full_softmax", "sampled_softmax", "bce"] = "sampled_softmax"
    """Full softmax over the catalogue, softmax over shared log-Q corrected negatives, or binary cross-entropy."""


class Recommenders(Section):
    """Settings of each recommender, by name."""

    popularity: Popularity = Popularity()
    """Popular items."""
    repurchase: Repurchase = Repurchase()
    """What the user buys again."""
    item_knn: ItemKNN = ItemKNN()
    """Bought with."""
    ease: Ease = Ease()
    """Item-item regression."""
    mfn: MFN = MFN()
    """Matrix factorisation network."""
    gru: GRU = GRU()
    """Sequence model."""
