"""Element types: the names a manifest uses, their width, and what NumPy, ml_dtypes and torch call them."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional


class Dtype(NamedTuple):
    """One element type that has a fixed width of whole bytes."""

    itemsize: int
    numpy: Optional[str]
    """NumPy's name, little-endian; None when NumPy has no such type."""
    ml_dtypes: Optional[str]
    """Attribute of the ``ml_dtypes`` package that stands in."""
    torch: Optional[str]
    """Attribute of ``torch``; older releases lack some."""


# Names not listed (sub-byte types, GGUF's quantised blocks) are given as raw bytes.
DTYPES: Dict[str, Dtype] = {
    "BOOL": Dtype(1, "?", None, "bool"),
    "U8": Dtype(1, "u1", None, "uint8"),
    "I8": Dtype(1, "i1", None, "int8"),
    "U16": Dtype(2, "<u2", None, "uint16"),
    "I16": Dtype(2, "<i2", None, "int16"),
    "U32": Dtype(4, "<u4", None, "uint32"),
    "I32": Dtype(4, "<i4", None, "int32"),
    "U64": Dtype(8, "<u8", None, "uint64"),
    "I64": Dtype(8, "<i8", None, "int64"),
    "F16": Dtype(2, "<f2", None, "float16"),
    "F32": Dtype(4, "<f4", None, "float32"),
    "F64": Dtype(8, "<f8", None, "float64"),
    "C64": Dtype(8, "<c8", None, "complex64"),
    "BF16": Dtype(2, None, "bfloat16", "bfloat16"),
    "F8_E4M3": Dtype(1, None, "float8_e4m3fn", "float8_e4m3fn"),
    "F8_E5M2": Dtype(1, None, "float8_e5m2", "float8_e5m2"),
    "F8_E8M0": Dtype(1, None, "float8_e8m0fnu", "float8_e8m0fnu"),
    "F8_E4M3FNUZ": Dtype(1, None, "float8_e4m3fnuz", "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": Dtype(1, None, "float8_e5m2fnuz", "float8_e5m2fnuz"),
}

_numpy_cache: Dict[str, Any] = {}


def numpy_dtype(name: str) -> Any:
    """The ``numpy.dtype`` for a manifest name (through ml_dtypes when it is installed), or None: show raw bytes."""
    if name not in _numpy_cache:
        _numpy_cache[name] = _find_numpy_dtype(name)
    return _numpy_cache[name]


def _find_numpy_dtype(name: str) -> Any:
    import numpy

    dtype = DTYPES.get(name)
    if dtype is None:
        return None
    if dtype.numpy is not None:
        return numpy.dtype(dtype.numpy)
    try:
        import ml_dtypes
    except ImportError:
        return None
    scalar = getattr(ml_dtypes, dtype.ml_dtypes or "", None)
    return None if scalar is None else numpy.dtype(scalar)


def torch_dtype(name: str) -> Any:
    """The ``torch.dtype`` for a manifest name, or None where this torch has none."""
    import torch

    dtype = DTYPES.get(name)
    return None if dtype is None or dtype.torch is None else getattr(torch, dtype.torch, None)
