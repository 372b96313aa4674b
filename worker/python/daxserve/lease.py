"""The lease: the open connection, a daemon thread that listens to it, and the way back when the service restarts."""

from __future__ import annotations

import _thread
import logging
import os
import random
import select
import socket
import threading
from typing import Any, Callable, Dict, List, Optional

from .errors import DaxserveError
from .handle import Handle, parse_handle
from .protocol import Answer, close_all, exchange, parse_event

_log = logging.getLogger("daxserve")
_EVENT_BYTES_MAX = 1 << 20
# The service is back, and our content no longer has the name.
_GONE_CODES = {"MODEL_MISMATCH", "MODEL_NOT_FOUND"}
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 10.0

Callback = Callable[[], Any]


class Lease:
    """Owns the connection. Knows nothing of the model, so that a forgotten model can end it.

    In a forked child every call is a no-op: the connection belongs to the parent, the child's mapping needs none.
    """

    def __init__(self, answer: Answer, handle: Handle, path: str, request: Dict[str, Any], timeout: float) -> None:
        """:param request: the line that attaches again, by digest"""
        self._sock: Optional[socket.socket] = answer.sock
        self._rest = answer.rest
        self._handle = handle
        self._path = path
        self._request = request
        self._timeout = timeout
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._draining = False
        self._listening = False
        self._callbacks: Dict[str, List[Callback]] = {"draining": [], "detached": [], "reattached": []}

    def watch(self) -> None:
        """Starts the thread. It never keeps the process alive."""
        # Thread.start would wait until the thread runs, which costs an attach more than all of its own work.
        _thread.start_new_thread(self._run, ())

    @property
    def attached(self) -> bool:
        return self._sock is not None and not self.inherited

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def inherited(self) -> bool:
        """True in a forked child of the process that attached."""
        return self._pid != os.getpid()

    def on(self, event: str, callback: Callback) -> None:
        if self.inherited:
            return
        with self._lock:
            self._callbacks[event].append(callback)
            missed = event == "draining" and self._draining
        if missed:
            _call(callback)

    def close(self) -> None:
        """Ends the lease at once; a second call does nothing. A child only forgets its copy of the socket."""
        if self.inherited:
            if self._sock is not None:
                self._sock.close()
            return
        self._closed.set()
        with self._lock:
            sock, self._sock = self._sock, None
            listening = self._listening
        if sock is not None:
            _shut_down(sock)
            if not listening:
                sock.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                sock, rest, self._rest = self._sock, self._rest, b""
                self._listening = sock is not None
            if sock is None:
                return
            self._listen(sock, rest)
            with self._lock:
                self._sock = None
                self._listening = False
            sock.close()
            if self._closed.is_set():
                return
            self._emit("detached")
            if not self._come_back():
                return
            self._emit("reattached")

    def _listen(self, sock: socket.socket, pending: bytes) -> None:
        """Reads event lines until the connection ends."""
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        while True:
            *lines, pending = pending.split(b"\n")
            for line in lines:
                self._take_event(line)
            try:
                poll.poll()
                data = sock.recv(65536)
            except OSError:
                return
            if not data or len(pending) > _EVENT_BYTES_MAX:
                return
            pending += data

    def _take_event(self, line: bytes) -> None:
        if parse_event(line) == "draining":
            self._drain()

    def _drain(self) -> None:
        with self._lock:
            callbacks = [] if self._draining else list(self._callbacks["draining"])
            self._draining = True
        for callback in callbacks:
            _call(callback)

    def _come_back(self) -> bool:
        """Attaches again with growing pauses; false when there is nothing to come back to."""
        pause = _FIRST_PAUSE_S
        while not self._closed.wait(pause * random.uniform(0.5, 1.0)):
            pause = min(pause * 2, _LONGEST_PAUSE_S)
            try:
                answer = exchange(self._path, self._request, self._timeout)
            except DaxserveError as error:
                _log.debug("not attached again yet: %s", error)
                if error.code in _GONE_CODES:
                    self._drain()
                continue
            # The old mapping keeps the old descriptor's lock; the new descriptor is not needed.
            close_all(answer.fds)
            return self._accept(answer)
        return False

    def _accept(self, answer: Answer) -> bool:
        try:
            same = parse_handle(answer.handle).covers(self._handle)
        except DaxserveError:
            same = False
        with self._lock:
            if same and not self._closed.is_set():
                self._sock, self._rest = answer.sock, answer.rest
                return True
        answer.sock.close()
        if not same:
            _log.warning("model %s now lies elsewhere: attach again; this mapping stays valid", self._handle.model)
        return False

    def _emit(self, event: str) -> None:
        with self._lock:
            callbacks = list(self._callbacks[event])
        for callback in callbacks:
            _call(callback)


def _call(callback: Callback) -> None:
    try:
        callback()
    except Exception:
        _log.exception("a callback of a daxserve model failed")


def _shut_down(sock: socket.socket) -> None:
    try:
        # Ends the connection even if a forked child has a copy, and wakes the thread, which then closes it.
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
