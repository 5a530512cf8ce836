"""The settings of the neural recommenders: which parts they are made of, and how they are trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section

Share = Annotated[float, Field(ge=0, lt=1)]
ItemPart = Literal["id", "attributes", "kim_cnn", "bert"]
Attribute = Literal["category", "brand", "price_band"]
SOFTMAX_LOSSES = ("full_softmax", "sampled_softmax", "in_batch")


class Neural(Section):
    """A recommender composed of a user encoder, item encoders, a scorer and a loss."""

    user_encoder: Literal["id", "mean", "gru", "lstm", "transformer"]
    """How a user becomes a vector: a table of users (those it was not trained on cannot be scored), or from the history
    the mean of its item vectors, a GRU, an LSTM or a causal transformer (SASRec)."""
    event_types: bool = False
    """Tell the user encoder what each event was: a view, a purchase."""
    time_gaps: bool = False
    """Tell the user encoder how long after the one before it each event came, in logarithmic steps."""
    layers: Positive = 1
    """Layers of the GRU, LSTM or transformer, or of NeuMF's MLP."""
    heads: Positive = 2
    """Attention heads of the transformer; they divide `dim`."""
    item_encoder: Annotated[tuple[ItemPart, ...], Field(min_length=1)] = ("id",)
    """What an item's vector is made of: a table by id, attributes (category, brand, price band), KimCNN over the words
    of its text, BERT over its subwords; several are combined. Without `id`, or with `id_dropout`, items without
    events get vectors too."""
    combine: Literal["sum", "gate"] = "sum"
    """How several parts become one vector: added, or mixed by learnt gates."""
    id_dropout: Share = 0.0
    """Share of a step's items whose `id` part is hidden, so that the other parts learn to do without it."""
    affinity: tuple[Attribute, ...] = ()
    """Attributes of which a user's share in the whole history, over their share in all events, is added to the score
    (`models/affinity.py`): weights, prior and half-life are learnt beside the trained network. A network reads the last
    `datasets.max_length` - 1 events and blurs hundreds of categories; this does neither, also for items without
    events."""
    filters: Positive = 64
    """Filters of each width (3, 4 and 5 words) of KimCNN."""
    lora_rank: Annotated[int, Field(ge=0, le=256)] = 0
    """Rank of the LoRA adapters of BERT, which is that of the folder `features.tokenizer`; 0 leaves it as it is and
    trains a projection of its vectors."""
    lora_items: Positive = 16
    """Texts of a step that go through the language model with gradient, where it has adapters."""
    scorer: Literal["dot", "cosine", "neumf"] = "dot"
    """How user and item vectors become a score: dot product, cosine over a learnt temperature, or NeuMF's GMF and MLP
    parts."""
    temperature: Annotated[float, Field(gt=0.01, lt=1)] = 0.1
    """What the cosine is divided by at the start of training; it stays between 0.01 and 1."""
    loss: Literal["full_softmax", "sampled_softmax", "in_batch", "bce", "gbce", "bpr"]
    """Softmax over the catalogue, over shared log-Q corrected negatives, or over the step's own targets (in_batch);
    or for each position its own negatives: binary cross-entropy, gBCE or BPR."""
    calibration: Annotated[float, Field(ge=0, le=1)] = 0.75
    """The t of gBCE: 0 is binary cross-entropy, 1 undoes all the overconfidence that sampling brings."""
    negatives: Positive = 1024
    """Sampled negatives: shared by a step (sampled_softmax), or of each position (bce, gbce, bpr)."""
    negatives_power: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Negatives are drawn in proportion to this power of the items' counts: 0 uniform, 1 popularity."""
    dim: Positive = 64
    """Width of user and item vectors."""
    dropout: Share = 0.2
    """Dropout share."""
    input_dropout: Share | None = None
    """Dropout share of the item vectors that the user encoder reads; by default that of `dropout` (mean: none)."""
    id_start: Literal["random", "histories"] = "random"
    """Where the table by id starts: drawn, or at the vectors that fit_features learned from the histories
    (`features.word2vec`), as many of their dimensions as there are, at length one also beside other parts."""
    average_epochs: NotNegative = 0.0
    """Epochs over which the parameters are averaged, exponentially: the averages are what is validated and kept; 0
    keeps the parameters of the last step."""
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
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes on from its peak: as it is, or down to zero at the last of `epochs`."""
    grad_clip: PositiveFloat = 1.0
    """Largest norm of the gradient."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """A setting to which a recommender only gives another default keeps its meaning."""
        for name, field in cls.model_fields.items():
            if field.description is None and name in Neural.model_fields:
                field.description = Neural.model_fields[name].description

    @field_validator("item_encoder", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("affinity", mode="before")
    @classmethod
    def _none_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("item_encoder", "affinity")
    @classmethod
    def _each_once(cls, parts: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(parts)) != len(parts):
            raise ValueError("names a part twice")
        return parts

    @model_validator(mode="after")
    def _user_side_fits(self) -> Neural:
        if self.user_encoder == "transformer" and self.dim % self.heads:
            raise ValueError(f"the transformer's heads share dim: {self.dim} must be a multiple of heads {self.heads}")
        if self.user_encoder == "id" and (self.event_types or self.time_gaps):
            raise ValueError("user_encoder id reads no history: event_types and time_gaps must be false")
        return self

    @model_validator(mode="after")
    def _item_side_fits(self) -> Neural:
        if self.combine == "gate" and len(self.item_encoder) == 1:
            raise ValueError("combine gate mixes several parts: name more than one item_encoder")
        if self.id_dropout and ("id" not in self.item_encoder or len(self.item_encoder) == 1):
            raise ValueError("id_dropout hides id behind other parts: item_encoder must name id and another")
        if self.id_start == "histories" and "id" not in self.item_encoder:
            raise ValueError("id_start is where the table by id starts: item_encoder must name id")
        if self.lora_rank and "bert" not in self.item_encoder:
            raise ValueError("lora_rank is that of BERT's adapters: item_encoder must name bert")
        return self

    @model_validator(mode="after")
    def _loss_fits(self) -> Neural:
        if self.scorer == "neumf" and self.loss in SOFTMAX_LOSSES:
            raise ValueError(
                f"scorer neumf takes loss bce, gbce or bpr: {self.loss} needs a dot product or a cosine, "
                "which a matrix product gives for the whole catalogue"
            )
        if self.scorer == "neumf" and self.dim % 2:
            raise ValueError("scorer neumf splits dim into GMF and MLP halves: dim must be even")
        if self.loss == "gbce" and self.negatives_power:
            raise ValueError("loss gbce is made for uniform negatives: negatives_power must be 0")
        return self


class MFN(Neural):
    """Matrix factorisation network: NeuMF (He et al. 2017) over the mean of the history's item vectors."""

    user_encoder: Literal["id", "mean", "gru", "lstm", "transformer"] = "mean"
    scorer: Literal["dot", "cosine", "neumf"] = "neumf"
    loss: Literal["full_softmax", "sampled_softmax", "in_batch", "bce", "gbce", "bpr"] = "bce"
    negatives: Positive = 4
    dim: Positive = 32
    epochs: Positive = 8


class GRU(Neural):
    """GRU4Rec (Hidasi and Karatzoglou 2018): a GRU over the history, scored by the dot product."""

    user_encoder: Literal["id", "mean", "gru", "lstm", "transformer"] = "gru"
    loss: Literal["full_softmax", "sampled_softmax", "in_batch", "bce", "gbce", "bpr"] = "sampled_softmax"


class LSTM(Neural):
    """An LSTM over the history, scored by the dot product."""

    user_encoder: Literal["id", "mean", "gru", "lstm", "transformer"] = "lstm"
    loss: Literal["full_softmax", "sampled_softmax", "in_batch", "bce", "gbce", "bpr"] = "sampled_softmax"


class SASRec(Neural):
    """SASRec (Kang and McAuley 2018): a causal transformer over the history, scored by the dot product."""

    user_encoder: Literal["id", "mean", "gru", "lstm", "transformer"] = "transformer"
    layers: Positive = 2
    loss: Literal["full_softmax", "sampled_softmax", "in_batch", "bce", "gbce", "bpr"] = "sampled_softmax"
    learning_rate: PositiveFloat = 0.003


class KimCNN(Neural):
    """A GRU over items that are read by a convolutional network over their words (Kim 2014)."""

    user_encoder: Literal["id", "mean", "gru", "lstm", "transformer"] = "gru"
    item_encoder: Annotated[tuple[ItemPart, ...], Field(min_length=1)] = ("id", "kim_cnn")
    id_dropout: Share = 0.5
    affinity: tuple[Attribute, ...] = ("category", "brand")
    loss: Literal["full_softmax", "sampled_softmax", "in_batch", "bce", "gbce", "bpr"] = "sampled_softmax"
    learning_rate: PositiveFloat = 0.003


class Bert(Neural):
    """A causal transformer over items that are read by a language model."""

    user_encoder: Literal["id", "mean", "gru", "lstm", "transformer"] = "transformer"
    item_encoder: Annotated[tuple[ItemPart, ...], Field(min_length=1)] = ("id", "bert")
    id_dropout: Share = 0.5
    affinity: tuple[Attribute, ...] = ("category", "brand")
    loss: Literal["full_softmax", "sampled_softmax", "in_batch", "bce", "gbce", "bpr"] = "sampled_softmax"
    learning_rate: PositiveFloat = 0.003


class TwoTower(Neural):
    """Two towers (Yi et al. 2019): mean of the history and item content, cosine, contrasted within the step."""

    user_encoder: Literal["id", "mean", "gru", "lstm", "transformer"] = "mean"
    item_encoder: Annotated[tuple[ItemPart, ...], Field(min_length=1)] = ("id", "attributes", "kim_cnn")
    id_dropout: Share = 0.5
    affinity: tuple[Attribute, ...] = ("category", "brand")
    scorer: Literal["dot", "cosine", "neumf"] = "cosine"
    loss: Literal["full_softmax", "sampled_softmax", "in_batch", "bce", "gbce", "bpr"] = "in_batch"
    batch_size: Positive = 512
    learning_rate: PositiveFloat = 0.003
