"""A handle, checked: which bytes of the region hold which file. Nothing of it is believed before it is checked."""

from __future__ import annotations

import mmap
from typing import Any, Dict, List, NamedTuple, NoReturn

from .errors import error_for

MANIFEST_PATH = ".daxserve/manifest.json"
_OFFSET_MAX = 1 << 62


class FileInfo(NamedTuple):
    """One attached file. ``digest`` is its XXH3-128 in 32 hex digits."""

    path: str
    size: int
    digest: str


class Extent(NamedTuple):
    """``length`` bytes from ``file_offset`` of a file, at ``offset`` of the region. All in bytes."""

    file_offset: int
    offset: int
    length: int


class PlacedFile(NamedTuple):
    info: FileInfo
    extents: List[Extent]
    """Ascending by ``file_offset``; neighbours that touch on both sides are one."""


class Handle(NamedTuple):
    """What a lease gives, without its descriptor."""

    id: str
    model: str
    digest: str
    revision: "str | None"
    region_uuid: str
    region_size: int
    map_alignment: int
    files: Dict[str, PlacedFile]

    def covers(self, other: "Handle") -> bool:
        """True when every file of ``other`` lies at the same place of the same region in this handle."""
        if (self.region_uuid, self.digest) != (other.region_uuid, other.digest):
            return False
        return all(self.files.get(path) == file for path, file in other.files.items())


def parse_handle(raw: Dict[str, Any]) -> Handle:
    """Checks the JSON of a handle of kind mmap.

    :raises DaxserveError: WORKER_BAD_HANDLE, naming what is wrong
    """
    if raw.get("kind") != "mmap":
        _refuse(f"its kind is {raw.get('kind')!r}, not 'mmap'")
    buffers = raw.get("buffers")
    if not isinstance(buffers, list) or len(buffers) != 1 or not isinstance(buffers[0], dict):
        _refuse("it must list exactly one buffer")
    region = raw.get("region")
    if not isinstance(region, dict):
        _refuse("it names no region")
    size = _whole(region, "size")
    alignment = _whole(region, "mapAlignment")
    if alignment == 0 or alignment % mmap.ALLOCATIONGRANULARITY:
        _refuse(f"mapAlignment {alignment} is not a multiple of the page size")
    files = buffers[0].get("files")
    if not isinstance(files, list):
        _refuse("its buffer lists no files")
    placed = (_parse_file(file, size) for file in files)
    by_path = {file.info.path: file for file in placed}
    revision = raw.get("revision")
    return Handle(
        id=_text(raw, "id"),
        model=_text(raw, "model"),
        digest=_text(raw, "digest"),
        revision=revision if isinstance(revision, str) else None,
        region_uuid=_text(region, "uuid"),
        region_size=size,
        map_alignment=alignment,
        files=by_path,
    )


def _parse_file(raw: Any, region_size: int) -> PlacedFile:
    if not isinstance(raw, dict):
        _refuse("a file is not an object")
    info = FileInfo(_text(raw, "path"), _whole(raw, "size"), _text(raw, "digest"))
    extents = raw.get("extents")
    if not isinstance(extents, list):
        _refuse(f"{info.path!r} lists no extents")
    merged: List[Extent] = []
    end = 0
    for item in extents:
        extent = _parse_extent(item, info, region_size)
        if extent.file_offset < end:
            _refuse(f"the extents of {info.path!r} overlap")
        end = extent.file_offset + extent.length
        _append(merged, extent)
    return PlacedFile(info, merged)


def _parse_extent(raw: Any, info: FileInfo, region_size: int) -> Extent:
    if not isinstance(raw, dict):
        _refuse(f"an extent of {info.path!r} is not an object")
    extent = Extent(_whole(raw, "fileOffset"), _whole(raw, "bufferOffset"), _whole(raw, "length"))
    if extent.file_offset + extent.length > info.size:
        _refuse(f"an extent of {info.path!r} ends outside the file")
    if extent.offset + extent.length > region_size:
        _refuse(f"an extent of {info.path!r} ends outside the region")
    return extent


def _append(merged: List[Extent], extent: Extent) -> None:
    if extent.length == 0:
        return
    last = merged[-1] if merged else None
    touches = last is not None and (
        last.file_offset + last.length == extent.file_offset and last.offset + last.length == extent.offset
    )
    if last is not None and touches:
        merged[-1] = last._replace(length=last.length + extent.length)
    else:
        merged.append(extent)


def _whole(raw: Dict[str, Any], key: str) -> int:
    value = raw.get(key)
    if type(value) is not int or not 0 <= value <= _OFFSET_MAX:
        _refuse(f"{key} is {value!r}, not a count of bytes")
    return value


def _text(raw: Dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str):
        _refuse(f"{key} is {value!r}, not a text")
    return value


def _refuse(reason: str) -> NoReturn:
    raise error_for("WORKER_BAD_HANDLE", f"The service sent a handle that cannot be used: {reason}.")
