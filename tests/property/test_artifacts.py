"""Artifacts from a stranger: whatever their files hold, loading ends in one line, runs nothing and takes no memory."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FUSION, FusedModel
from recsys_spark.online.encoding import LARGEST, unpacked_history, unpacked_list
from recsys_spark.online.overlay import Overlay
from recsys_spark.online.store import StoreError
from recsys_spark.recommenders.bundle import CONFIG, MANIFEST, TENSORS, VOCABULARY, file_sha256
from recsys_spark.recommenders.registry import load_recommender
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.training.checkpoint import STATE, load_checkpoint, save_checkpoint
from recsys_spark.training.tensor_file import read_into, write_tensors
from tests.live_shop import write_model

SLIGHT = 1 << 20
FUZZ = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DEEP = b"[" * 200_000


class Ran(Exception):  # noqa: N818 - it says what happened
    """Something was unpickled."""


def _run() -> None:
    raise Ran


class Evil:
    """Unpickling one is noticed."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _run, ()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def bundle(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model / "components" / "als", tmp_path / "als"))


def sealed(bundle: Path, name: str, content: bytes) -> Path:
    """The bundle with another content of a file, and the hash that goes with it: made so, and not damaged."""
    (bundle / name).write_bytes(content)
    manifest = {"files": {file: file_sha256(bundle / file) for file in (CONFIG, TENSORS, VOCABULARY)}}
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return bundle


def refused(load: Callable[[], object], kind: type[Exception] = UserError) -> str:
    """The one line with which something is refused, before it took memory."""
    tracemalloc.start()
    try:
        with pytest.raises(kind) as told:
            load()
        assert tracemalloc.get_traced_memory()[1] < 16 * SLIGHT
    finally:
        tracemalloc.stop()
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("name", [CONFIG, TENSORS, VOCABULARY])
def test_a_pickle_is_refused_and_never_run(bundle: Path, name: str) -> None:
    with pytest.raises(Ran):
        pickle.loads(pickle.dumps(Evil()))  # noqa: S301 - it would be noticed
    sealed(bundle, name, pickle.dumps(Evil()))
    load = Vocabulary.load if name == VOCABULARY else lambda path: load_recommender(path.parent)
    assert "fit the model again" in refused(lambda: load(bundle / name))


@pytest.mark.parametrize("name", [CONFIG, TENSORS, VOCABULARY])
def test_a_file_with_another_hash_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes() + b" ")
    assert f"{name} changed since it was written" in refused(lambda: load_recommender(bundle))


def test_a_file_that_is_a_pipe_or_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / TENSORS).rename(tmp_path / "elsewhere")
    (bundle / TENSORS).symlink_to(tmp_path / "elsewhere")
    assert f"{TENSORS} is no plain file" in refused(lambda: load_recommender(bundle))
    (bundle / TENSORS).unlink()
    os.mkfifo(bundle / TENSORS)
    assert f"{TENSORS} is no plain file" in refused(lambda: load_recommender(bundle))


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"7", DEEP, b'{"files": 3}', b'{"files": {"../x": "y"}}', b"\xff"]
)
def test_a_manifest_that_is_none_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    refused(lambda: load_recommender(bundle))


@FUZZ
@given(content=JSON)
def test_any_json_as_configuration_of_a_bundle_is_refused(bundle: Path, content: Any) -> None:
    refused(lambda: load_recommender(sealed(bundle, CONFIG, json.dumps(content).encode())))


def header(**entry: Any) -> bytes:
    text = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **entry}}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


HEADERS = {
    "empty": b"",
    "shorter than a length": b"\x01\x02",
    "claims what is not there": (90 << 20).to_bytes(8, "little") + b"{}",
    "claims all memory": (2**63).to_bytes(8, "little") + b"{}",
    "no json": (4).to_bytes(8, "little") + b"\xff\xfe{}",
    "a list": (2).to_bytes(8, "little") + b"[]",
    "deep": len(DEEP).to_bytes(8, "little") + DEEP,
    "a huge shape": header(shape=[2**40, 2**20]),
    "a negative shape": header(shape=[-2, -2]),
    "offsets beyond the end": header(data_offsets=[2**40, 2**40 + 16]),
    "negative offsets": header(data_offsets=[-16, 0]),
    "offsets the wrong way": header(data_offsets=[16, 0]),
    "offsets of another size": header(data_offsets=[0, 8]),
    "no offsets": header(data_offsets=None),
    "an unknown type": header(dtype="F1"),
    "another thing": header(dtype=["F32"]),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_a_header_of_tensors_is_not_believed(bundle: Path, content: bytes) -> None:
    refused(lambda: load_recommender(sealed(bundle, TENSORS, content)))
    tensor = torch.zeros(2, 2)
    (bundle / TENSORS).write_bytes(content)
    refused(lambda: read_into(bundle / TENSORS, {"w": tensor}), ValueError)


def test_a_file_as_it_was_written_is_read(tmp_path: Path) -> None:
    tensor = torch.zeros(2, 2)
    (tmp_path / "own").write_bytes(header())
    read_into(tmp_path / "own", {"w": tensor})
    write_tensors(tmp_path / "w", {"w": torch.ones(2, 2), "none": torch.zeros(0)})
    read_into(tmp_path / "w", {"w": tensor, "none": torch.zeros(0)})
    assert tensor.sum() == 4


@FUZZ
@given(place=st.integers(0, 400), byte=st.integers(0, 255), cut=st.integers(0, 40))
def test_damaged_tensors_are_refused_or_are_tensors_of_that_shape(
    tmp_path: Path, place: int, byte: int, cut: int
) -> None:
    content = bytearray(save({"w": torch.ones(2, 2), "b": torch.ones(3)}))
    content[place % len(content)] = byte
    (tmp_path / "t").write_bytes(content[: len(content) - cut])
    tensor = torch.zeros(2, 2)
    with suppress(ValueError):
        read_into(tmp_path / "t", {"w": tensor})
    assert tensor.shape == (2, 2)


@FUZZ
@given(content=st.binary(max_size=64))
def test_tensors_of_any_bytes_are_refused(bundle: Path, content: bytes) -> None:
    refused(lambda: load_recommender(sealed(bundle, TENSORS, content)))


@pytest.mark.parametrize("content", [b"null", b"[]", DEEP, b"{}", b'{"state": 1, "sha256": 2}', b'{"state": {}}'])
def test_a_checkpoint_of_another_shape_is_none(tmp_path: Path, content: bytes) -> None:
    path = save_checkpoint(tmp_path, {"epoch": 1}, {"model.w": torch.ones(2)})
    (path / STATE).write_bytes(content)
    assert load_checkpoint(path) is None


def fused(model: Path, target: Path, **changes: Any) -> Path:
    """The model with another `fusion.json`, and the hash that goes with it."""
    shutil.copytree(model, target)
    content = {**json.loads((target / FUSION).read_text()), **changes}
    (target / FUSION).write_text(json.dumps(content))
    manifest = json.loads((target / MANIFEST).read_text())
    manifest["files"][FUSION] = file_sha256(target / FUSION)
    (target / MANIFEST).write_text(json.dumps(manifest))
    return target


@pytest.mark.parametrize(
    "changes",
    [
        {"order": ["../../als"]}, {"order": []}, {"order": None}, {"order": ["nobody"]}, {"settings": None},
        {"settings": {"allow": {}}}, {"settings": {"allow": {"method": "stacked", "components": [], "stack": {
            "candidates": 5, "trees": "../../secret"}}}}, {"event_weights": None}, {"target_events": None},
    ],
)  # fmt: skip
def test_a_fused_model_that_names_what_it_has_not_is_refused(
    model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert FusedModel.load(fused(model, tmp_path / "whole")).num_items == 12
    refused(lambda: FusedModel.load(fused(model, tmp_path / "changed", **changes)))


@pytest.mark.parametrize("content", [b"", b"null", DEEP, b'{"files": {}}', b'{"files": [], "components": []}'])
def test_a_fused_models_manifest_that_is_none_is_refused(model: Path, tmp_path: Path, content: bytes) -> None:
    target = Path(shutil.copytree(model, tmp_path / "model"))
    (target / MANIFEST).write_bytes(content)
    assert "missing or damaged" in refused(lambda: FusedModel.load(target))


@FUZZ
@given(content=st.binary(max_size=64) | st.sampled_from(list(HEADERS.values())))
def test_online_parameters_of_any_bytes_are_refused(content: bytes) -> None:
    refused(lambda: Overlay.from_bytes(content, "model"))


def test_a_row_of_the_store_that_would_fill_the_memory_is_refused() -> None:
    import zlib

    bomb = zlib.compress(bytes(2 * LARGEST), 9)
    assert len(bomb) < SLIGHT
    for unpacked in (unpacked_history, lambda body: unpacked_list(body, 0)):
        for body in (bomb, b"no zlib", zlib.compress(b"x" * 100)[:-6]):
            with pytest.raises(StoreError, match="damaged"):
                unpacked(body)  # type: ignore[operator]
