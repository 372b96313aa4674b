"""Model weights that daxserve holds in shared memory, as zero-copy NumPy and PyTorch views.

>>> import daxserve
>>> with daxserve.attach("org/m", wait=60) as m:
...     m["model.embed_tokens.weight"]       # numpy view, read-only
...     m.torch("model.embed_tokens.weight") # torch view
...     bytes(m.file("config.json"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import attach, attach_handle
from .dtypes import DTYPES, Dtype
from .errors import WORKER_ERRORS, DaxserveError, NotFoundError, NotReadyError, ServiceConnectionError
from .handle import FileInfo
from .integrations import torch_state_dict, torch_weights
from .manifest import TensorInfo
from .model import Model
from .protocol import default_socket_path

if TYPE_CHECKING:
    import numpy

    class RawArray(numpy.ndarray[Any, Any]):
        """Undecoded bytes of a tensor: ``uint8``, one dimension. ``tensor`` says what they are."""

        tensor: "TensorInfo | None"


__version__ = "0.1.0"
__all__ = [
    "DTYPES",
    "WORKER_ERRORS",
    "DaxserveError",
    "Dtype",
    "FileInfo",
    "Model",
    "NotFoundError",
    "NotReadyError",
    "ServiceConnectionError",
    "TensorInfo",
    "attach",
    "attach_handle",
    "default_socket_path",
    "torch_state_dict",
    "torch_weights",
]


def __getattr__(name: str) -> Any:
    if name == "RawArray":
        from .views import raw_array_class

        return raw_array_class()
    raise AttributeError(f"module 'daxserve' has no attribute {name!r}")
