"""A small real service for tests: a memfd as region, a unix socket, the wire protocol, and scripted faults.

Run as a program (``peer.py SOCKET``) it is a service in a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import socket
import struct
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional

CHUNK = 2 << 20
# Seconds for what must come, however busy the machine is: only what never comes reaches them.
PATIENCE = 120
MANIFEST = ".daxserve/manifest.json"
UUID = "6f1c8f5e-0000-4000-8000-000000000001"
DIGEST = "ab" * 32

# name, dtype, shape, bytes; the order is the order in the file
TENSORS = [
    ("bool", "BOOL", [4], 4),
    ("f32", "F32", [2, 3], 24),
    ("bf16", "BF16", [2, 4], 16),
    ("f8", "F8_E4M3", [8], 8),
    ("f8e5", "F8_E5M2", [3], 3),
    ("odd", "F32", [2], 8),
    ("f4", "F4", [2, 3], 3),
    ("q4", "Q4_0", [1, 32], 18),
    ("scalar", "I64", [], 8),
    ("empty", "F16", [0, 5], 0),
    ("c64", "C64", [2], 16),
    ("u16", "U16", [7], 14),
]


class Region:
    """A memfd with two files at chunk 1 and one, far away, at chunk 40."""

    def __init__(self, seed: int = 1) -> None:
        rng = random.Random(seed)
        self.size = 48 * CHUNK
        self.fd = os.memfd_create("daxserve-test-region")
        os.ftruncate(self.fd, self.size)
        self.weights = rng.randbytes(sum(t[3] for t in TENSORS))
        self.config = b'{"hidden_size": 384}'
        self.far = rng.randbytes(3 * CHUNK + 5)
        self.files: Dict[str, Dict[str, Any]] = {}
        self._put("w.safetensors", self.weights, CHUNK)
        self._put("config.json", self.config, CHUNK + 4096)
        self._put("far.safetensors", self.far, 40 * CHUNK)
        self._put("empty.txt", b"", 0)
        self.manifest = self._manifest()
        self._put(MANIFEST, json.dumps(self.manifest).encode(), CHUNK + 8192)

    def _put(self, path: str, content: bytes, offset: int) -> None:
        os.pwrite(self.fd, content, offset)
        extents = [{"fileOffset": 0, "bufferOffset": offset, "length": len(content)}] if content else []
        self.files[path] = {"path": path, "size": len(content), "digest": "0" * 32, "extents": extents}

    def _manifest(self) -> Dict[str, Any]:
        tensors, offset = [], 0
        for name, dtype, shape, length in TENSORS:
            tensors.append(_tensor(name, dtype, shape, "w.safetensors", offset, length))
            offset += length
        tensors.append(_tensor("far", "U8", [3 * CHUNK], "far.safetensors", 5, 3 * CHUNK))
        files = [{key: f[key] for key in ("path", "size", "digest")} for f in self.files.values()]
        return {
            "version": 1,
            "format": "safetensors",
            "source": "test",
            "revision": None,
            "files": files,
            "tensors": tensors,
            "metadata": {"made": "here"},
        }

    def expected(self, name: str) -> bytes:
        tensor = next(t for t in self.manifest["tensors"] if t["name"] == name)
        content = self.weights if tensor["file"] == "w.safetensors" else self.far
        return content[tensor["offset"] : tensor["offset"] + tensor["length"]]

    def locked_fd(self) -> int:
        """A fresh read-only description with a read lock on chunk 1, as the service makes for each lease."""
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK, CHUNK, CHUNK))
        return fd

    def may_reuse(self) -> bool:
        """True when no lease's lock lies on chunk 1."""
        probe = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.fcntl(probe, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, CHUNK, CHUNK))
            return True
        except OSError:
            return False
        finally:
            os.close(probe)

    def handle(self, files: Optional[List[str]] = None) -> Dict[str, Any]:
        chosen = [f for path, f in self.files.items() if files is None or path in files or path == MANIFEST]
        return {
            "id": "h1",
            "kind": "mmap",
            "model": "org/m:latest",
            "revision": "abc123",
            "digest": DIGEST,
            "region": {"uuid": UUID, "path": None, "size": self.size, "mapAlignment": 4096},
            "socket": None,
            "buffers": [{"size": self.size, "files": json.loads(json.dumps(chosen))}],
            "manifest": MANIFEST,
            "expiresAt": None,
        }


def _tensor(name: str, dtype: str, shape: List[int], file: str, offset: int, length: int) -> Dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape, "file": file, "offset": offset, "length": length}


def _flock(kind: int, start: int, length: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


class Connection:
    """One accepted worker."""

    def __init__(self, peer: "Peer", sock: socket.socket) -> None:
        self.peer = peer
        self.sock = sock
        self.request: Dict[str, Any] = {}

    def read_request(self) -> None:
        line = b""
        while not line.endswith(b"\n"):
            data = self.sock.recv(65536)
            if not data:
                raise OSError("no request")
            line += data
        self.request = json.loads(line)

    def send(self, data: bytes, fds: "Optional[List[int]]" = None) -> None:
        socket.send_fds(self.sock, [data], fds or [])

    def grant(self, change: Optional[Callable[[Dict[str, Any]], None]] = None, tail: bytes = b"") -> None:
        """Answers with a handle (changed first) and a locked descriptor."""
        handle = self.peer.region.handle(self.request.get("files"))
        if change:
            change(handle)
        fd = self.peer.region.locked_fd()
        try:
            self.send(json.dumps({"ok": True, "handle": handle}).encode() + b"\n" + tail, [fd])
        finally:
            os.close(fd)

    def refuse(self, code: str) -> None:
        self.send(json.dumps({"ok": False, "code": code, "error": "No."}).encode() + b"\n")

    def wait_closed(self) -> None:
        while self.sock.recv(65536):
            pass


class Peer:
    """Serves a region on ``path``. ``script`` answers one connection; when it returns the connection ends."""

    def __init__(self, path: str, region: Optional[Region] = None) -> None:
        self.path = path
        self.region = region or Region()
        self.script: Callable[[Connection], None] = hold
        self.open: List[Connection] = []
        self.requests: List[Dict[str, Any]] = []
        self.changed = threading.Condition()
        self._listener: Optional[socket.socket] = None

    def start(self) -> "Peer":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """As a service that dies: the socket file goes, every connection breaks."""
        if self._listener is None:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = None
        os.unlink(self.path)
        for connection in list(self.open):
            with contextlib.suppress(OSError):  # it may just have ended by itself
                connection.sock.shutdown(socket.SHUT_RDWR)
        self.wait_for(lambda: not self.open)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while not condition():
                assert time.monotonic() < deadline, "it did not happen"
                # Some conditions are the kernel's, of which nobody tells.
                self.changed.wait(0.01)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Connection(self, sock),), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with self.changed:
            self.open.append(connection)
        try:
            connection.read_request()
            with self.changed:
                self.requests.append(connection.request)
                self.changed.notify_all()
            self.script(connection)
        except OSError:
            pass
        finally:
            connection.sock.close()
            with self.changed:
                self.open.remove(connection)
                self.changed.notify_all()


def hold(connection: Connection) -> None:
    """Grants and keeps the lease until the worker goes."""
    connection.grant()
    connection.wait_closed()


if __name__ == "__main__":
    service = Peer(sys.argv[1]).start()
    print("ready", flush=True)
    sys.stdin.read()
