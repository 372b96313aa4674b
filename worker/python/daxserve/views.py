"""Bytes as NumPy arrays and torch tensors, without a copy. Imports either only when asked for."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any, Optional

from .dtypes import numpy_dtype, torch_dtype
from .errors import error_for
from .manifest import TensorInfo

if TYPE_CHECKING:
    import numpy
    import torch

_raw_class: Optional[type] = None
_torch_warned = False
_torch_warned_lock = threading.Lock()


def raw_array_class() -> Any:
    """:class:`RawArray`, made on first use because NumPy is optional."""
    global _raw_class
    if _raw_class is not None:
        return _raw_class
    numpy = _import_numpy()

    class RawArray(numpy.ndarray):  # type: ignore[misc,name-defined]
        """Undecoded bytes of a tensor: ``uint8``, one dimension. ``tensor`` says what they are."""

        tensor: Optional[TensorInfo] = None

        def __array_finalize__(self, base: Any) -> None:
            # Only the whole row is the tensor; slices and results of arithmetic are plain bytes.
            self.tensor = None

    RawArray.__module__ = "daxserve"
    RawArray.__qualname__ = "RawArray"
    _raw_class = RawArray
    return _raw_class


def as_numpy(tensor: TensorInfo, buffer: memoryview, raw: bool) -> "numpy.ndarray[Any, Any]":
    numpy = _import_numpy()
    dtype = None if raw else numpy_dtype(tensor.dtype)
    if dtype is not None:
        return numpy.ndarray(tensor.shape, dtype, buffer)
    array = numpy.ndarray((tensor.length,), numpy.uint8, buffer).view(raw_array_class())
    array.tensor = tensor
    return array


def as_torch(tensor: TensorInfo, buffer: memoryview, raw: bool) -> "torch.Tensor":
    torch = _import_torch()
    dtype = torch.uint8 if raw else torch_dtype(tensor.dtype)
    if dtype is None:
        message = f"torch {torch.__version__} has no type for {tensor.dtype}: use raw=True, or a newer torch."
        raise error_for("WORKER_NO_DTYPE", message)
    shape = (tensor.length,) if raw else tensor.shape
    if tensor.length == 0:
        return torch.empty(shape, dtype=dtype)
    _warn_once(torch)
    return torch.frombuffer(buffer, dtype=dtype).reshape(shape)


def _warn_once(torch: Any) -> None:
    """Lets torch give its once-per-process warning about read-only buffers where nobody sees it."""
    global _torch_warned
    with _torch_warned_lock:
        if _torch_warned:
            return
        _torch_warned = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.frombuffer(memoryview(b"\0"), dtype=torch.uint8)


def _import_numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        message = "NumPy is not installed: pip install numpy, or use .buffer(name)."
        raise error_for("WORKER_NEEDS_NUMPY", message) from error
    return numpy


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        message = "PyTorch is not installed: pip install torch, or use .buffer(name)."
        raise error_for("WORKER_NEEDS_TORCH", message) from error
    return torch
