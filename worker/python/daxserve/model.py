"""The attached model: tensors and files as zero-copy, read-only views of the shared memory."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, NoReturn, Optional, Sequence

from . import views
from .errors import error_for
from .handle import MANIFEST_PATH, FileInfo, Handle, PlacedFile, parse_handle
from .lease import Lease
from .manifest import Manifest, TensorInfo, check_tensor, parse_manifest
from .mapping import RegionMap
from .protocol import Answer, close_all

if TYPE_CHECKING:
    import numpy
    import torch

    _Arrays = Mapping[str, "numpy.ndarray[Any, Any]"]
else:
    _Arrays = Mapping


class Model(_Arrays):
    """A lease on one model and its mapping; made by :func:`daxserve.attach`.

    A mapping from tensor name to NumPy array. Views are read-only and stay valid after :meth:`close`, after the
    object is gone, in forked children, and while the service restarts. Safe to share between threads.
    """

    def __init__(self, region: RegionMap, handle: Handle, manifest: Manifest, lease: Lease) -> None:
        self._region: Optional[RegionMap] = region
        self._handle = handle
        self._manifest = manifest
        self._lease = lease
        self._end = weakref.finalize(self, lease.close)
        # At exit the kernel closes the connection; a forked child may still need it.
        self._end.atexit = False

    @property
    def name(self) -> str:
        """``name:tag``."""
        return self._handle.model

    @property
    def digest(self) -> str:
        """Names the content: equal digests are equal files."""
        return self._handle.digest

    @property
    def revision(self) -> Optional[str]:
        """The source's own version word, a commit for instance."""
        return self._handle.revision

    @property
    def format(self) -> str:
        """``safetensors``, ``gguf`` or ``files``."""
        return self._manifest.format

    @property
    def metadata(self) -> Dict[str, Any]:
        """What the model's format carries beside tensors."""
        return self._manifest.metadata

    @property
    def tensors(self) -> "Mapping[str, TensorInfo]":
        """Name to dtype, shape, file, offset and length, of the attached tensors."""
        return MappingProxyType(self._manifest.tensors)

    @property
    def files(self) -> Dict[str, FileInfo]:
        """Path to size and digest, of the attached files."""
        return {path: file.info for path, file in self._handle.files.items() if path != MANIFEST_PATH}

    @property
    def nbytes(self) -> int:
        """Bytes of the attached tensors together."""
        return sum(tensor.length for tensor in self._manifest.tensors.values())

    @property
    def attached(self) -> bool:
        """True while the service knows of this lease; the bytes do not depend on it. False in a forked child."""
        return self._lease.attached

    @property
    def draining(self) -> bool:
        """True once the service has said that this content is being replaced or removed."""
        return self._lease.draining

    @property
    def closed(self) -> bool:
        return self._region is None

    def __getitem__(self, name: str) -> "numpy.ndarray[Any, Any]":
        return self.numpy(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifest.tensors)

    def __len__(self) -> int:
        return len(self._manifest.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._manifest.tensors

    # Two attachments are never equal, and a model can be a key.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self)} tensors, {self.nbytes} bytes"
        return f"<daxserve.Model {self.name} {state}>"

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def buffer(self, name: str) -> memoryview:
        """The tensor's bytes.

        :raises NotFoundError: WORKER_NO_TENSOR
        :raises DaxserveError: WORKER_CLOSED, WORKER_BAD_MANIFEST, WORKER_NOT_CONTIGUOUS
        """
        tensor = self._tensor(name)
        file = self._handle.files.get(tensor.file)
        if file is None:
            _no_file(tensor.file)
        return self._view(file, tensor.offset, tensor.length)

    def numpy(self, name: str, raw: bool = False) -> "numpy.ndarray[Any, Any]":
        """The tensor as a read-only array. Types that NumPy lacks come through ml_dtypes when it is installed, else
        (and with ``raw``) as a :class:`daxserve.RawArray`: one row of ``uint8`` that knows its ``tensor``."""
        return views.as_numpy(self._tensor(name), self.buffer(name), raw)

    def torch(self, name: str, raw: bool = False) -> "torch.Tensor":
        """The tensor for torch on the CPU, not copied. torch has no read-only tensors: writing to it ends the process
        with SIGSEGV; use ``.clone()`` or ``.to(device)`` before changing it. ``raw``: one row of ``uint8``.

        :raises DaxserveError: WORKER_NO_DTYPE when this torch lacks the type
        """
        return views.as_torch(self._tensor(name), self.buffer(name), raw)

    def file(self, path: str) -> memoryview:
        """A whole file.

        :raises NotFoundError: WORKER_NO_FILE
        """
        file = self._handle.files.get(path)
        if file is None:
            _no_file(path)
        return self._view(file, 0, file.info.size)

    def on_draining(self, callback: Callable[[], Any]) -> None:
        """Calls back, on a thread of this library, when the content is being replaced or removed (at once if that was
        said already): attach again and close this model to let its memory go. Not called in forked children."""
        self._lease.on("draining", callback)

    def on_detached(self, callback: Callable[[], Any]) -> None:
        """Calls back when the connection to the service is lost. The views stay valid."""
        self._lease.on("detached", callback)

    def on_reattached(self, callback: Callable[[], Any]) -> None:
        """Calls back when the service is back and knows of this lease again."""
        self._lease.on("reattached", callback)

    def close(self) -> None:
        """Ends the lease. The memory is let go when the last view of it is gone. Idempotent."""
        self._region = None
        self._end()

    def _tensor(self, name: str) -> TensorInfo:
        tensor = self._manifest.tensors.get(name)
        if tensor is None:
            raise error_for("WORKER_NO_TENSOR", f"There is no tensor {name!r} in {self.name}: see .tensors.")
        check_tensor(tensor)
        return tensor

    def _view(self, file: PlacedFile, offset: int, length: int) -> memoryview:
        region = self._region
        if region is None:
            raise error_for("WORKER_CLOSED", f"The model {self.name} is closed: attach it again.")
        return region.view(_locate(file, offset, length), length)


def open_model(
    answer: Answer,
    path: str,
    timeout: float,
    reattach: bool,
    tensors: Optional[Sequence[str]] = None,
    files: Optional[Sequence[str]] = None,
) -> Model:
    """Maps what an answer granted. Owns the answer: closes everything on failure."""
    region = None
    try:
        if len(answer.fds) != 1:
            raise error_for("WORKER_BAD_HANDLE", f"The service sent {len(answer.fds)} descriptors instead of one.")
        handle = parse_handle(answer.handle)
        region = RegionMap(answer.fds[0], handle)
        manifest = _read_manifest(region, handle, tensors)
    except BaseException:
        answer.sock.close()
        if region is not None:
            region.discard()
        raise
    finally:
        close_all(answer.fds)
    chosen = {key: list(value) for key, value in (("tensors", tensors), ("files", files)) if value is not None}
    again = {"v": 1, "op": "attach", "model": handle.model, "digest": handle.digest, **chosen}
    lease = Lease(answer, handle, path, again, timeout)
    if reattach:
        lease.watch()
    return Model(region, handle, manifest, lease)


def _read_manifest(region: RegionMap, handle: Handle, wanted: Optional[Sequence[str]]) -> Manifest:
    file = handle.files.get(MANIFEST_PATH)
    if file is None:
        raise error_for("WORKER_BAD_HANDLE", f"The service sent a handle without {MANIFEST_PATH}.")
    size = file.info.size
    manifest = parse_manifest(bytes(region.view(_locate(file, 0, size), size)))
    if wanted is None and {t.file for t in manifest.tensors.values()} <= handle.files.keys():
        return manifest
    names = manifest.tensors if wanted is None else wanted
    kept = {name: manifest.tensors[name] for name in names if name in manifest.tensors}
    return manifest._replace(tensors={name: t for name, t in kept.items() if t.file in handle.files})


def _locate(file: PlacedFile, offset: int, length: int) -> int:
    """Where [offset, offset + length) of a file begins in the region."""
    if length == 0:
        return 0
    for extent in file.extents:
        begin = offset - extent.file_offset
        if begin >= 0 and begin + length <= extent.length:
            return extent.offset + begin
    if offset + length > file.info.size:
        raise error_for("WORKER_BAD_MANIFEST", f"The manifest speaks of bytes behind the end of {file.info.path!r}.")
    message = f"Bytes {offset}+{length} of {file.info.path!r} do not lie in one piece of memory: read them by parts."
    raise error_for("WORKER_NOT_CONTIGUOUS", message)


def _no_file(path: str) -> NoReturn:
    raise error_for("WORKER_NO_FILE", f"There is no file {path!r} among the attached files: see .files.")
