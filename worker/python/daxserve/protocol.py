"""The worker socket: connect, one JSON line, one JSON line back with descriptors."""

from __future__ import annotations

import array
import json
import os
import socket
import time
from typing import Any, Dict, List, NamedTuple, Optional

from .errors import DaxserveError, error_for

ANSWER_BYTES_MAX = 64 << 20
"""Longest answer taken: a handle that lists a million files."""
_FDS_MAX = 64
_RETRY_CODES = {"WORKER_NO_SERVICE", "WORKER_LOST", "SERVER_STARTING", "SERVER_STOPPING"}


class Answer(NamedTuple):
    """A granted handle. The caller owns the socket (the lease) and the descriptors."""

    sock: socket.socket
    handle: Dict[str, Any]
    fds: List[int]
    rest: bytes
    """Bytes that came behind the answer: the start of event lines."""


def default_socket_path() -> str:
    """``$DAXSERVE_SOCKET``, else the system's socket if it exists, else the user's."""
    given = os.environ.get("DAXSERVE_SOCKET")
    if given:
        return given
    system = "/run/daxserve/daxserve.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if os.path.exists(system) or not runtime:
        return system
    return os.path.join(runtime, "daxserve", "daxserve.sock")


def exchange(path: str, request: Dict[str, Any], timeout: float) -> Answer:
    """Connects, sends one request and reads its answer.

    :param timeout: seconds for all of it
    :raises ServiceConnectionError: nobody listens, the peer went away, or the time ran out
    :raises DaxserveError: the service refused (its own code), or its answer breaks the protocol
    """
    deadline = time.monotonic() + timeout
    sock = _connect(path, timeout)
    fds: List[int] = []
    try:
        line, rest = _talk(sock, json.dumps(request).encode() + b"\n", fds, deadline, timeout)
        handle = _parse(line)
    except BaseException:
        sock.close()
        close_all(fds)
        raise
    sock.settimeout(None)
    return Answer(sock, handle, fds, rest)


def exchange_waiting(path: str, request: Dict[str, Any], timeout: float, wait: float) -> Answer:
    """``exchange``, tried again for ``wait`` seconds while the service is not there yet or restarts."""
    deadline = time.monotonic() + wait
    pause = 0.05
    while True:
        left = max(0.0, deadline - time.monotonic())
        if wait:
            request = {**request, "wait": True, "timeoutSeconds": max(left, 0.001)}
        try:
            return exchange(path, request, timeout + left)
        except DaxserveError as error:
            if error.code not in _RETRY_CODES or time.monotonic() + pause >= deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


def close_all(fds: List[int]) -> None:
    """Closes descriptors and forgets them."""
    while fds:
        os.close(fds.pop())


def _connect(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise error_for("WORKER_NO_SERVICE", _unreachable(path, error)) from error
    return sock


def _unreachable(path: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"This user may not open the worker socket {path}: ask for --allow-uid or --socket-group on the service."
    reason = error.strerror or str(error)
    return f"No daxserve service answers on {path} ({reason}): start one, or set DAXSERVE_SOCKET to its socket."


def _talk(sock: socket.socket, line: bytes, fds: List[int], deadline: float, timeout: float) -> "tuple[bytes, bytes]":
    received = bytearray()
    try:
        sock.sendall(line)
        while True:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            scanned = len(received)
            received += _receive(sock, fds)
            end = received.find(b"\n", scanned)
            if end >= 0:
                return bytes(received[:end]), bytes(received[end + 1 :])
            if len(received) > ANSWER_BYTES_MAX:
                raise error_for("WORKER_BAD_ANSWER", f"The service answered with more than {ANSWER_BYTES_MAX} bytes.")
    except socket.timeout as error:
        message = f"The service did not answer within {timeout:g} s: give a longer timeout, or wait= for a loading model."
        raise error_for("WORKER_TIMEOUT", message) from error
    except OSError as error:
        raise error_for("WORKER_LOST", f"The connection to the service broke ({error.strerror}): try again.") from error


def _receive(sock: socket.socket, fds: List[int]) -> bytes:
    item = array.array("i").itemsize
    data, ancillary, flags, _ = sock.recvmsg(1 << 18, socket.CMSG_SPACE(_FDS_MAX * item), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            got = array.array("i")
            got.frombytes(content[: len(content) - len(content) % item])
            fds.extend(got)
    if flags & socket.MSG_CTRUNC or len(fds) > _FDS_MAX:
        raise error_for("WORKER_BAD_ANSWER", "The service sent more descriptors than an answer may carry.")
    if not data:
        raise error_for("WORKER_LOST", "The service closed the connection before it answered: try again.")
    return data


def _parse(line: bytes) -> Dict[str, Any]:
    answer = _json_object(line)
    if answer.get("ok") is True and isinstance(answer.get("handle"), dict):
        return answer["handle"]
    code, message = answer.get("code"), answer.get("error")
    if answer.get("ok") is False and isinstance(code, str):
        raise error_for(code, message if isinstance(message, str) else "The service refused.")
    raise error_for("WORKER_BAD_ANSWER", "The service's answer is neither a handle nor an error: is it daxserve?")


def _json_object(line: bytes) -> Dict[str, Any]:
    try:
        answer: Optional[Any] = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise error_for("WORKER_BAD_ANSWER", "The service's answer is not a JSON object: is this daxserve's socket?")
    return answer


def parse_event(line: bytes) -> Optional[str]:
    """The name of an event line, or None for anything that is not one."""
    try:
        event = _json_object(line).get("event")
    except DaxserveError:
        return None
    return event if isinstance(event, str) else None
