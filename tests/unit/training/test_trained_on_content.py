"""Trainings whose item vectors come from content, on the planted sequences: a block's items share two words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.content import BertSettings, Content, ContentSizes
from recsys_spark.models.language_model import directory_sha256
from recsys_spark.training.checkpoint import load_checkpoint
from recsys_spark.training.keeper import Keeper
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.worker import train
from tests.unit.models.language_models import write_tiny_bert
from tests.unit.training.conftest import BLOCKS, ITEMS, SIZE

SIZES = ContentSizes(categories=BLOCKS, brands=1, price_bands=1, vocabulary=2 + 2 * BLOCKS, word_dim=8, filters=4)


@pytest.fixture
def content_spec(make_spec: Callable[..., TrainSpec], tmp_path: Path) -> Callable[..., TrainSpec]:
    """A spec of items that are read by what the keywords say."""
    folder = write_tiny_bert(tmp_path / "bert")
    block_I = torch.cat((torch.zeros(1, dtype=torch.int64), torch.arange(ITEMS) // SIZE + 1))
    words_TW = torch.tensor([[0, 0], *([2 * block, 2 * block + 1] for block in range(1, BLOCKS + 1))])
    subwords_SW = torch.tensor([[2, 3, 0, 0], *([2, 3 + block, 5 + block, 3] for block in range(1, BLOCKS + 1))])
    ones = (block_I > 0).to(torch.int64)
    lengths_S = (subwords_SW > 0).sum(dim=1)
    coded = (block_I.clone(), ones, ones.clone(), block_I.clone(), words_TW.int())
    content = Content(*coded, None, block_I, subwords_SW.int(), lengths_S)
    version = content.save(tmp_path / "content")

    def make(work: str, rank: int = 0, **changes: object) -> TrainSpec:
        bert = BertSettings(path=str(folder), sha256=directory_sha256(folder), width=16, lora_rank=rank, lora_items=2)
        spec = make_spec(work=str(tmp_path / work), content=SIZES, bert=bert, **changes)
        return replace(spec, content=str(tmp_path / "content"), content_version=version)

    return make


@pytest.mark.parametrize("part", ["attributes", "kim_cnn", "bert"])
def test_words_alone_tell_which_block_comes_next(content_spec, part):
    result = train(content_spec("a", epochs=4, item_encoders=(part,), dropout=0.0))
    # All items of a block are alike but for their popularity: the target is among six.
    assert result["valid_ndcg_at_10"] > 0.5


def test_with_adapters_killed_in_an_epoch_and_resumed_it_ends_as_if_undisturbed(content_spec, monkeypatch):
    monkeypatch.setattr(Keeper, "due", lambda _: True)  # a checkpoint after each step
    parts = {"item_encoders": ("id", "bert"), "id_dropout": 0.5, "rank": 2, "epochs": 2}
    undisturbed = train(content_spec("a", **parts))
    calls, forward = [], ComposedModel.forward

    def killed(self, step):
        calls.append(step)
        if len(calls) == 15:  # in the second epoch of ten steps
            raise KeyboardInterrupt
        return forward(self, step)

    monkeypatch.setattr(ComposedModel, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        train(content_spec("b", **parts))
    resumed = train(content_spec("b", **parts))
    assert len(calls) < 15 + 10  # not the whole epoch was trained again
    left, right = (load_checkpoint(Path(result["checkpoint"])).tensors for result in (resumed, undisturbed))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert any("lora_B" in name and value.any() for name, value in left.items())
    assert not [name for name in left if "embeddings" in name]
