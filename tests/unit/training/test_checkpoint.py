from __future__ import annotations

import hashlib
import itertools
import pydoc

import pytest
import torch
from safetensors.torch import load_file

from recsys_spark.training.checkpoint import latest_checkpoint, load_checkpoint, prune_checkpoints, save_checkpoint
from recsys_spark.training.tensor_file import read_into, write_tensors

F = {"fingerprint": "f"}


def save(directory, epoch, fingerprint="f", step=0):
    state = {"epoch": epoch, "step": step, "fingerprint": fingerprint}
    return save_checkpoint(directory, state, {"model.w": torch.full((3,), epoch)})


def test_what_was_saved_is_loaded(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    latest = latest_checkpoint(tmp_path, F)
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
    assert latest_checkpoint(tmp_path, F).state["epoch"] == 1


def test_killed_at_any_step_of_writing_the_older_checkpoint_stays(tmp_path, monkeypatch):
    """Every call that reaches the file system is a place to die, the last ones after the rename."""
    steps = ["os.fsync", "os.open", "pathlib.Path.write_text", "pathlib.Path.open", "pathlib.Path.rename"]
    found = set()
    for place in range(50):
        folder = tmp_path / str(place)
        save(folder, 1)
        calls = itertools.count()
        with monkeypatch.context() as patch:
            for name in steps:
                patch.setattr(name, dying(pydoc.locate(name), calls, place))
            try:
                save(folder, 2)
                break
            except KeyboardInterrupt:
                pass
        latest = latest_checkpoint(folder, F)
        found.add(latest.state["epoch"])
        assert latest.part("model")["w"].tolist() == [latest.state["epoch"]] * 3
        save(folder, 3)  # nothing is in the way of the next one
        assert latest_checkpoint(folder, F).state["epoch"] == 3
    assert place > 8  # so many places there were
    assert found == {1, 2}


def dying(original, calls, place):
    def call(*args, **kwargs):
        if next(calls) == place:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    return call


def test_a_checkpoint_within_an_epoch_comes_after_its_begin_and_before_its_end(tmp_path):
    for epoch, step in [(2, 0), (1, 900), (1, 0), (1, 12345)]:
        save(tmp_path, epoch, step=step)
    order = []
    while (latest := latest_checkpoint(tmp_path, F)) is not None:
        order.append((latest.state["epoch"], latest.state["step"]))
        prune_checkpoints(tmp_path, {p for p in tmp_path.iterdir() if p != latest.path})
    assert order == [(2, 0), (1, 12345), (1, 900), (1, 0)]


def test_tensors_are_those_that_safetensors_reads_and_come_back_into_place(tmp_path):
    tensors = {
        "f": torch.randn(5, 3),
        "view": torch.arange(12).reshape(3, 4).t(),
        "half": torch.randn(4).to(torch.bfloat16),
        "flag": torch.tensor([True, False]),
        "number": torch.tensor(7.0, dtype=torch.float64),
        "none": torch.empty(0, 2),
    }
    digest = write_tensors(tmp_path / "t", tensors)
    assert digest == hashlib.sha256((tmp_path / "t").read_bytes()).hexdigest()
    loaded = load_file(tmp_path / "t")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    back = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    read_into(tmp_path / "t", back)
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    with pytest.raises(ValueError, match="no f of the wanted shape"):
        read_into(tmp_path / "t", {"f": torch.zeros(3, 5)})


def test_checkpoints_of_another_training_are_not_resumed(tmp_path):
    save(tmp_path, 1, "mine")
    save(tmp_path, 2, "other")
    assert latest_checkpoint(tmp_path, {"fingerprint": "mine"}).state["epoch"] == 1
    assert latest_checkpoint(tmp_path, {"fingerprint": "nobody"}) is None


def test_pruning_keeps_the_named_epochs(tmp_path):
    for epoch in (1, 2, 3):
        save(tmp_path, epoch)
    (tmp_path / ".partial-epoch-0004-1").mkdir()
    prune_checkpoints(tmp_path, keep={tmp_path / "epoch-0001", tmp_path / "epoch-0003"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001", "epoch-0003"]
