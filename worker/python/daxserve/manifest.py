"""The manifest ``.daxserve/manifest.json``: which bytes of which file are which tensor."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, NamedTuple, NoReturn, Tuple

from .dtypes import DTYPES
from .errors import error_for

_VERSION = 1


class TensorInfo(NamedTuple):
    """One tensor as the manifest states it: ``length`` bytes from ``offset`` of ``file``, row-major."""

    name: str
    dtype: str
    """Name of the element type as the model's format spells it: ``F32``, ``BF16``, ``F8_E4M3``, ``Q4_K``, ..."""
    shape: Tuple[int, ...]
    file: str
    offset: int
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.length


_make = TensorInfo._make


class Manifest(NamedTuple):
    format: str
    metadata: Dict[str, Any]
    tensors: Dict[str, TensorInfo]


def parse_manifest(data: bytes) -> Manifest:
    """:raises DaxserveError: WORKER_BAD_MANIFEST"""
    try:
        raw = json.loads(data)
        if raw["version"] != _VERSION:
            _refuse(f"its version is {raw['version']!r}: install the daxserve package that fits the service")
        tensors = {
            t["name"]: _make((t["name"], t["dtype"], tuple(t["shape"]), t["file"], t["offset"], t["length"]))
            for t in raw["tensors"]
        }
        return Manifest(raw.get("format") or "files", raw.get("metadata") or {}, tensors)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _refuse(f"{type(error).__name__}: {error}")


def check_tensor(tensor: TensorInfo) -> None:
    """Refuses numbers that contradict each other; called when a tensor is first used.

    :raises DaxserveError: WORKER_BAD_MANIFEST
    """
    numbers = (*tensor.shape, tensor.offset, tensor.length)
    if any(type(number) is not int or number < 0 for number in numbers):
        _refuse(f"tensor {tensor.name!r} has a size that is not a count")
    dtype = DTYPES.get(tensor.dtype)
    if dtype is not None and math.prod(tensor.shape) * dtype.itemsize != tensor.length:
        _refuse(f"tensor {tensor.name!r} does not have the bytes that its shape needs")


def _refuse(reason: str) -> NoReturn:
    raise error_for("WORKER_BAD_MANIFEST", f"The model's manifest cannot be read: {reason}.")
