"""Tensors in files of the safetensors format, written from and read into the memory where they live.

The library's own writer first copies every tensor into bytes, and so would hold a large table twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from recsys_spark.json_files import parsed_object

DTYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
LONGEST_HEADER = 100 << 20
CHUNK = 1 << 20


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the tensors and flush them to the disk; returns the file's sha256."""
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        pieces: Iterator[bytes | memoryview] = chain(
            (len(head).to_bytes(8, "little"), head), map(_bytes_of, tensors.values())
        )
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def read_into(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill the tensors from those of the same names in the file, without a second copy on the CPU.

    Raises ValueError where the file has no tensor of a name, or one of another shape or type. What the header claims
    is believed only as far as the file reaches: memory is that of the given tensors.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(LONGEST_HEADER, size - 8):
            raise ValueError(f"{path} is no safetensors file")
        header = parsed_object(file.read(length), str(path))
        for name, tensor in tensors.items():
            start = _start(header.get(name), tensor, size - 8 - length)
            if start is None:
                raise ValueError(f"{path} has no {name} of the wanted shape")
            file.seek(8 + length + start)
            direct = tensor.device.type == "cpu" and tensor.is_contiguous()
            target = tensor.detach() if direct else torch.empty(tensor.shape, dtype=tensor.dtype)
            _fill(file, _bytes_of(target))
            if not direct:
                tensor.detach().copy_(target)


def _start(found: object, tensor: Tensor, size: int) -> int | None:
    """Where in the data the tensor's bytes begin; None where the header's entry is of another one, or of none."""
    match found:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            wanted = (DTYPES[tensor.dtype], list(tensor.shape), tensor.numel() * tensor.element_size())
            return start if (dtype, shape, end - start) == wanted and 0 <= start <= end <= size else None
        case _:
            return None


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a tensor on the CPU, of a copy of one elsewhere."""
    flat = tensor.detach().contiguous().cpu().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")


def _fill(file: object, memory: memoryview) -> None:
    done = 0
    while done < len(memory):
        read = file.readinto(memory[done : done + CHUNK])  # type: ignore[attr-defined]
        if not read:
            raise ValueError("the file ends within a tensor")
        done += read
