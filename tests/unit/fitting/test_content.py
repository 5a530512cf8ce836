from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.config import Config
from recsys_spark.config.features import Features
from recsys_spark.config.neural import GRU, Bert, KimCNN
from recsys_spark.errors import UserError
from recsys_spark.fitting import reading
from recsys_spark.fitting.content import content_of, write_content
from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.models.language_model import LanguageModel
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.extended import kept_for_new_items
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.recommenders.registry import load_recommender
from tests.contract.catalogue import write_bert, write_features
from tests.contract.planted import CONFIG

PAIRS = [(group, number) for group in range(4) for number in (0, 1, 2, 3, 6)]
"""The catalogue. Numbers 0 and 6 of a group have the same words."""
INDICES = [100 - place for place in range(len(PAIRS))]
KNOWN = [place for place, (_, number) in enumerate(PAIRS) if number < 3]
"""What the fit saw; the code of an item is its place here."""
COLD = [place for place, (_, number) in enumerate(PAIRS) if number >= 3]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_features(folder / "features", PAIRS, INDICES, [1] * len(PAIRS), cut=0)
    (folder / "dataset").mkdir()
    table = {"code": range(len(KNOWN)), "item_index": [INDICES[place] for place in KNOWN]}
    pq.write_table(pa.table({name: pa.array(column, pa.int32()) for name, column in table.items()}), vocabulary(folder))
    (folder / "dataset" / "dataset.json").write_text(json.dumps({"num_items": len(KNOWN)}))
    write_bert(folder / "bert")
    return folder


def vocabulary(shop: Path) -> Path:
    return shop / "dataset" / "vocabulary.parquet"


def inputs(shop: Path, output: Path, **changes: Any) -> FitInputs:
    config = CONFIG.model_copy(update={"features": Features(tokenizer=str(shop / "bert"))})
    made = FitInputs(
        spark=cast(Any, None),
        config=config,
        name="bert",
        fit="select",
        dataset=shop / "dataset",
        histories=cast(Any, None),
        folds=(0,),
        cut_time=0,
        output=output / "bundle",
        features=shop / "features",
    )
    return replace(made, **changes)


def test_content_is_that_of_the_fits_items_in_the_order_of_their_codes(shop: Path, tmp_path: Path) -> None:
    made = write_content(inputs(shop, tmp_path), KimCNN(), tmp_path / "content")
    content = Content.load(tmp_path / "content")
    assert content.num_items == len(KNOWN)
    assert content.categories_I.tolist() == [0, *(PAIRS[place][0] + 1 for place in KNOWN)]
    assert content.brands_I.tolist() == [0, *(PAIRS[place][1] % 2 + 1 for place in KNOWN)]
    assert made.sizes.categories == 4
    assert made.sizes.brands == 2
    assert made.sizes.price_bands == 4
    assert int(content.words_TW.max()) < made.sizes.vocabulary
    assert content.words_TW.shape[0] == len(KNOWN) + 1  # no two of them say the same
    assert not content.words_TW[0].any()
    assert content.pooled_SH is None


def test_items_of_the_same_words_share_a_text(shop: Path) -> None:
    content = content_of(shop / "features", "select", np.array([INDICES[4], INDICES[1], INDICES[0], 7]))
    like, other, first, unknown = content.texts_I[1:].tolist()
    assert first == like
    assert other not in (first, 0)
    assert unknown == 0  # the tables do not know it
    assert content.categories_I.tolist() == [0, 1, 1, 1, 0]


def test_the_language_model_reads_a_text_once_for_all_fits(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    own = inputs(shop, tmp_path, cache=tmp_path / "cache", progress=told.append)
    made = write_content(own, Bert(), tmp_path / "content")
    content = Content.load(tmp_path / "content")
    assert made.bert is not None
    assert content.subwords_SW is not None
    assert content.lengths_S is not None
    expected = LanguageModel(made.bert).pooled(content.subwords_SW, content.lengths_S, {})
    torch.testing.assert_close(content.pooled_SH, expected)
    assert f"{len(expected):,} texts read, 0 were known" in told[-1]
    with monkeypatch.context() as patched:
        patched.setattr(reading, "LanguageModel", None)
        again = write_content(own, Bert(), tmp_path / "again")
    assert again.version == made.version
    (file,) = (tmp_path / "cache" / "language_models").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")  # a damaged file is computed again
    assert write_content(own, Bert(), tmp_path / "again").version == made.version


def test_the_table_by_id_may_start_at_the_vectors_of_the_fits_own_histories(shop: Path, tmp_path: Path) -> None:
    features = tmp_path / "features"
    shutil.copytree(shop / "features", features)
    width = 64  # the features' own
    (features / "item_vectors").mkdir()
    schema = pa.schema([("fit", pa.string()), ("item_index", pa.int32()), ("sequence_vector", pa.list_(pa.float32()))])
    parts = [
        {"fit": ["select", "select"], "item_index": [INDICES[KNOWN[0]], INDICES[KNOWN[1]]]}
        | {"sequence_vector": [[2.0] * width, None]},
        {"fit": ["publish"], "item_index": [INDICES[KNOWN[2]]], "sequence_vector": [[3.0] * width]},
    ]
    for number, part in enumerate(parts):
        pq.write_table(pa.table(part, schema=schema), features / "item_vectors" / f"part-{number}.parquet")
    own = inputs(shop, tmp_path, features=features)
    write_content(own, GRU(id_start="histories"), tmp_path / "content")
    vectors = Content.load(tmp_path / "content").item_vectors_I
    assert vectors is not None
    assert vectors.shape == (len(KNOWN) + 1, width)
    assert vectors.any(dim=1).nonzero().flatten().tolist() == [1]  # one of select has none, and publish is another fit


def test_what_bert_lacks_is_said_in_one_sentence(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = inputs(shop, tmp_path, config=CONFIG)
    with pytest.raises(UserError, match=r"bert reads subwords; set features\.tokenizer to the folder of a BERT model"):
        write_content(plain, Bert(), tmp_path / "content")
    with pytest.raises(UserError, match=r"needs the features of items; run jobs/fit_features\.py first"):
        write_content(replace(plain, features=None), KimCNN(), tmp_path / "content")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs transformers: pip install 'recsys-spark\[text\]'"):
        write_content(inputs(shop, tmp_path), Bert(), tmp_path / "content")
    with pytest.raises(ValueError, match=r"models: bert reads subwords; set features\.tokenizer"):
        Config.model_validate({**CONFIG.model_dump(mode="json"), "models": ["bert"]})


@pytest.mark.parametrize("scorer", ["dot", "cosine"])
@pytest.mark.parametrize("rank", [0, 2])
def test_a_bundle_scores_items_that_the_fit_never_saw(shop: Path, tmp_path: Path, scorer: str, rank: int) -> None:
    settings = Bert(item_encoder=("id", "attributes", "kim_cnn", "bert"), lora_rank=rank)
    made = write_content(inputs(shop, tmp_path), settings, tmp_path / "content")
    composition = Composition(
        user_encoder="mean",
        item_encoders=settings.item_encoder,
        content=made.sizes,
        bert=made.bert,
        scorer=scorer,
        dim=8,
        num_items=len(KNOWN),
        max_length=5,
    )
    model = ComposedModel(composition)
    model.reset_parameters(torch.Generator().manual_seed(0))
    model.attach(Content.load(Path(made.path)))
    model.eval()
    at_rest = model.history_scorer()
    kept = kept_for_new_items(model.item_encoder, at_rest.biases_I)
    NeuralRecommender("bert", composition, at_rest, kept).save(tmp_path / "bundle", vocabulary(shop))
    known = load_recommender(tmp_path / "bundle")
    assert isinstance(known, NeuralRecommender)

    cold = [INDICES[place] for place in COLD]
    whole = known.extended(content_of(shop / "features", "select", np.array([*cold, INDICES[0]])))
    batch = UserBatch(
        items=torch.tensor([0, 1, 4, 2]),
        event_types=torch.full((4,), 4),
        weights=torch.ones(4),
        ages=torch.zeros(4),
        offsets=torch.tensor([0, 2, 4]),
    )
    scores = whole.score(batch).scores
    assert scores.shape == (2, len(KNOWN) + len(COLD) + 1)
    torch.testing.assert_close(scores[:, : len(KNOWN)], known.score(batch).scores)
    # As the model sees an item that it knows when its id is hidden, so it sees it when it is new.
    alone = model.item_encoder.from_content(torch.tensor([0, 1]))[1]
    users = torch.stack([at_rest.vectors_ID[[1, 2]].mean(0), at_rest.vectors_ID[[5, 3]].mean(0)])
    expected = model.scorer.matrix(model.scorer.user_side(users), model.scorer.item_side(alone[None]))
    torch.testing.assert_close(scores[:, -1:], expected)  # all biases are zero
    # Its codes come after the others, and may stand in histories.
    assert whole.score(replace(batch, items=torch.tensor([0, len(KNOWN), 4, 2]))).can_score.all()


def test_a_bundle_of_ids_alone_keeps_nothing_for_new_items_and_says_so(shop: Path, tmp_path: Path) -> None:
    composition = Composition(user_encoder="mean", dim=4, num_items=len(KNOWN), max_length=5)
    model = ComposedModel(composition)
    model.reset_parameters(torch.Generator().manual_seed(0))
    recommender = NeuralRecommender("mfn", composition, model.eval().history_scorer())
    with pytest.raises(UserError, match="by their ids alone"):
        recommender.extended(content_of(shop / "features", "select", np.array(INDICES[:1])))
