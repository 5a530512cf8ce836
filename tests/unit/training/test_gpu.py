"""What a GPU must do as the processor does; skipped where there is none. docs/training.md says how all run on it."""

from __future__ import annotations

import pytest
import torch

from recsys_spark.training.worker import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


@pytest.mark.parametrize("user_encoder", ["gru", "lstm", "transformer"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "full_softmax"])
def test_a_gpu_trains_what_the_processor_trains(make_spec, tmp_path, user_encoder, loss):
    """The same draws and no dropout, so the losses differ by rounding alone."""
    parts = {"user_encoder": user_encoder, "loss": loss, "dropout": 0.0, "epochs": 3, "learning_rate": 0.005}
    on_cpu, on_gpu = (train(make_spec(work=str(tmp_path / str(gpu)), use_gpu=gpu, **parts)) for gpu in (False, True))
    assert on_gpu["loss"] == pytest.approx(on_cpu["loss"], rel=2e-3)
    assert on_gpu["valid_ndcg_at_10"] == pytest.approx(on_cpu["valid_ndcg_at_10"], abs=0.05)


@pytest.mark.parametrize("user_encoder", ["gru", "lstm", "transformer"])
def test_in_bfloat16_a_gpu_learns_that_the_next_item_of_the_block_follows(make_spec, user_encoder):
    result = train(make_spec(epochs=15, user_encoder=user_encoder, precision="bf16", use_gpu=True))
    assert result["valid_ndcg_at_10"] > 0.95
