from __future__ import annotations

import pytest
import torch

from recsys_spark.training import checkpoint as module
from recsys_spark.training.checkpoint import latest_checkpoint, load_checkpoint, prune_checkpoints, save_checkpoint


def save(directory, epoch, fingerprint="f"):
    return save_checkpoint(
        directory, {"epoch": epoch, "fingerprint": fingerprint}, {"model.w": torch.full((3,), epoch)}
    )


def test_what_was_saved_is_loaded(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    latest = latest_checkpoint(tmp_path, "f")
    assert latest.state["epoch"] == 2
    assert latest.part("model")["w"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_half_written_or_changed_checkpoint_is_passed_over(tmp_path, name, damage):
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-7])
    else:
        content[-3] ^= 1
        path.write_bytes(content)
    assert load_checkpoint(path.parent) is None
    assert latest_checkpoint(tmp_path, "f").state["epoch"] == 1


@pytest.mark.parametrize("step", ["save_file", "_flush"])
def test_killed_while_writing_the_older_checkpoint_stays(tmp_path, monkeypatch, step):
    save(tmp_path, 1)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, step, killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    assert latest_checkpoint(tmp_path, "f").state["epoch"] == 1


def test_checkpoints_of_another_training_are_not_resumed(tmp_path):
    save(tmp_path, 1, "mine")
    save(tmp_path, 2, "other")
    assert latest_checkpoint(tmp_path, "mine").state["epoch"] == 1
    assert latest_checkpoint(tmp_path, "nobody") is None


def test_pruning_keeps_the_named_epochs(tmp_path):
    for epoch in (1, 2, 3):
        save(tmp_path, epoch)
    (tmp_path / ".partial-epoch-0004-1").mkdir()
    prune_checkpoints(tmp_path, keep={1, 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001", "epoch-0003"]
