"""The mapping: a few read-only mmaps that cover a handle's bytes, and views into them."""

from __future__ import annotations

import bisect
import contextlib
import mmap
import os
import stat
import sys
from typing import Any, Dict, Iterable, List, NamedTuple

from .errors import error_for
from .handle import Extent, Handle

_CHUNK_BYTES = 2 << 20
"""The region's unit of allocation: holes smaller than this are mapped along."""


class Run(NamedTuple):
    """Bytes [start, end) of the region, mapped by one mmap."""

    start: int
    end: int


def plan_runs(extents: Iterable[Extent], alignment: int, region_size: int) -> List[Run]:
    """The fewest ranges, at multiples of ``alignment``, that cover ``extents``."""
    runs: List[Run] = []
    for extent in sorted(extents, key=lambda extent: extent.offset):
        start = extent.offset // alignment * alignment
        end = min(-(-(extent.offset + extent.length) // alignment) * alignment, region_size)
        if runs and start <= runs[-1].end + _CHUNK_BYTES:
            runs[-1] = Run(runs[-1].start, max(runs[-1].end, end))
        else:
            runs.append(Run(start, end))
    return runs


class RegionMap:
    """Read-only views of the mapped runs. A view keeps its run mapped, whatever happens to this object."""

    def __init__(self, fd: int, handle: Handle) -> None:
        """Maps at once; the caller may close ``fd`` afterwards.

        :raises DaxserveError: WORKER_BAD_HANDLE (the descriptor is smaller), WORKER_MAP_FAILED
        """
        extents = [extent for file in handle.files.values() for extent in file.extents]
        self._runs = plan_runs(extents, handle.map_alignment, handle.region_size)
        self._starts = [run.start for run in self._runs]
        _check_size(fd, max((run.end for run in self._runs), default=0))
        self._maps = [_map(fd, run) for run in self._runs]
        self._views = [memoryview(run) for run in self._maps]

    def view(self, offset: int, length: int) -> memoryview:
        """Bytes [offset, offset + length) of the region, read-only. They must lie in a mapped extent."""
        if length == 0:
            return memoryview(b"")
        index = bisect.bisect_right(self._starts, offset) - 1
        begin = offset - self._starts[index]
        return self._views[index][begin : begin + length]

    def discard(self) -> None:
        """Unmaps at once, where no view was given out: a traceback must not keep the memory from being reused."""
        for view, run in zip(self._views, self._maps):
            with contextlib.suppress(BufferError):
                view.release()
                run.close()


def _map(fd: int, run: Run) -> mmap.mmap:
    # mmap duplicates the descriptor unless told not to; the mapping alone keeps the lock.
    options: Dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    length = run.end - run.start
    try:
        return mmap.mmap(fd, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=run.start, **options)
    except (OSError, ValueError, OverflowError) as error:
        message = f"Mapping {length} bytes of the region failed ({error}): check ulimit -v and the service's region."
        raise error_for("WORKER_MAP_FAILED", message) from error


def _check_size(fd: int, needed: int) -> None:
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_size < needed:
        message = f"The service sent a handle that cannot be used: it needs {needed} bytes, its descriptor has fewer."
        raise error_for("WORKER_BAD_HANDLE", message)
