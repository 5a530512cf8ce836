"""What the registry says of each model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from recsys_spark.config import Config
from recsys_spark.fusion.settings import FusionSettings, Repeats
from recsys_spark.tracking.cards import ModelCard

WHAT = {
    "popularity": "Time-decayed popularity: the same list for everybody, and the fallback for users without history.",
    "trending": "On the rise: recent sales against those that the long run foretells; the same list for everybody.",
    "segment_popularity": "Popularity among users alike, by favourite category or activity, drawn to that among all.",
    "repurchase": "Recency-frequency: what a user bought often and lately, weighed by how often people buy it again.",
    "item_knn": "Item-based nearest neighbours on BM25-weighted co-occurrence.",
    "content_knn": "Item-based nearest neighbours by the words of title, description, category and brand (TF-IDF).",
    "ease": "EASE (Steck 2019): closed-form item-item regression on time-decayed histories.",
    "als": "Implicit ALS (Hu, Koren and Volinsky 2008); user vectors are solved for from the history when scored.",
    "mfn": "Matrix factorisation network: NeuMF's GMF and MLP parts over the mean of the history's item vectors.",
    "gru": "GRU4Rec: a recurrent network over the history, scored by the dot product.",
    "lstm": "A recurrent network with LSTM cells over the history, scored by the dot product.",
    "sasrec": "SASRec (Kang and McAuley 2018): a causal transformer over the history, scored by the dot product.",
    "kim_cnn": "Items by their text through KimCNN (Kim 2014), users by their history of such items.",
    "bert": "Items by their text through BERT, users by a transformer over their history of such items.",
    "two_tower": "Two towers: users by their history, items by their attributes, trained on each batch's own items.",
}


def recommender_card(
    name: str, config: Config, facts: Mapping[str, Any], as_of: datetime, metrics: Mapping[str, float]
) -> ModelCard:
    """The card of one recommender's publish fit."""
    return ModelCard(
        title=f"recsys-{name}",
        what=WHAT[name],
        trained_on=_trained_on(config, facts),
        trained_until=as_of.isoformat(),
        settings=getattr(config.recommenders, name).model_dump(mode="json"),
        metrics=metrics,
    )


def fused_card(
    config: Config,
    facts: Mapping[str, Any],
    as_of: datetime,
    settings: Mapping[Repeats, FusionSettings],
    metrics: Mapping[str, float],
) -> ModelCard:
    """The card of the fused model."""
    return ModelCard(
        title="recsys-fused",
        what=f"The {config.fusion.method} fusion of {', '.join(config.models)}: one explained list for each user.",
        trained_on=_trained_on(config, facts),
        trained_until=as_of.isoformat(),
        settings={
            f"{repeats}.{component.name}": f"{component.weight:.4g} x {component.normaliser.method}"
            for repeats, setting in settings.items()
            for component in setting.components
        },
        metrics=metrics,
    )


def _trained_on(config: Config, facts: Mapping[str, Any]) -> str:
    sources = ", ".join(path for source in config.source for path in source.paths)
    return f"{facts['num_items']['publish']} items of the events in {sources}"
