"""The entry points: attach by name, or by a handle that somebody reserved over HTTP."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional, Sequence, Union

from .errors import error_for
from .model import Model, open_model
from .protocol import default_socket_path, exchange, exchange_waiting

WAIT_SECONDS = 600.0
"""What ``wait=True`` means."""

PathArgument = Union[str, "os.PathLike[str]", None]


def attach(
    model: str,
    socket: PathArgument = None,
    wait: float = 0,
    source: Optional[str] = None,
    *,
    timeout: float = 10.0,
    tensors: Optional[Sequence[str]] = None,
    files: Optional[Sequence[str]] = None,
    revision: Optional[str] = None,
    digest: Optional[str] = None,
    reattach: bool = True,
) -> Model:
    """Attaches to a model that the service holds and maps its bytes; the time does not depend on its size.

    :param model: ``name[:tag]``
    :param socket: path of the worker socket; default ``$DAXSERVE_SOCKET``, ``/run/daxserve/daxserve.sock`` if it
        exists, else ``$XDG_RUNTIME_DIR/daxserve/daxserve.sock``
    :param wait: seconds to wait for the service to be there and for the model to become ready; 0 does not wait,
        ``True`` waits 600 s
    :param source: loads the model from here when the service does not know it; combine with ``wait``
    :param timeout: seconds to wait for an answer, on top of ``wait``
    :param tensors: only the files that hold these tensors, and only these names in ``.tensors``
    :param files: only these files
    :param revision: refuse another revision
    :param digest: refuse another content
    :param reattach: watch the connection in a daemon thread, and attach again when the service comes back
    :raises NotFoundError: no such model, tensor, file or source
    :raises NotReadyError: the model is loading (and ``wait`` is 0 or ran out), failed or is being removed
    :raises ServiceConnectionError: nobody answers on the socket
    :raises DaxserveError: every other refusal; ``code`` tells which
    """
    seconds = WAIT_SECONDS if wait is True else float(wait)
    if seconds < 0 or timeout <= 0:
        raise error_for("WORKER_BAD_ARGUMENT", "wait must not be negative and timeout must be above 0 (seconds).")
    path = os.fspath(socket) if socket is not None else default_socket_path()
    optional: Dict[str, Any] = {
        "source": source,
        "revision": revision,
        "digest": digest,
        "tensors": _names(tensors, "tensors"),
        "files": _names(files, "files"),
    }
    request = {"v": 1, "op": "attach", "model": model}
    request.update({key: value for key, value in optional.items() if value is not None})
    answer = exchange_waiting(path, request, timeout, seconds)
    return open_model(answer, path, timeout, reattach, tensors, files)


def attach_handle(
    id: str, token: str, socket: PathArgument = None, *, timeout: float = 10.0, reattach: bool = True
) -> Model:
    """Attaches to a handle made by ``POST /models/{name}/handles``, before its TTL ends. Takes each handle once.

    :param token: from the answer that created the handle
    :raises NotFoundError: HANDLE_NOT_FOUND
    :raises DaxserveError: HANDLE_EXPIRED, HANDLE_BAD_TOKEN, HANDLE_ATTACHED
    """
    path = os.fspath(socket) if socket is not None else default_socket_path()
    request = {"v": 1, "op": "attach", "handle": id, "token": token}
    return open_model(exchange(path, request, timeout), path, timeout, reattach)


def _names(names: Optional[Sequence[str]], argument: str) -> "list[str] | None":
    if names is None:
        return None
    if isinstance(names, str):
        raise error_for("WORKER_BAD_ARGUMENT", f"{argument} must be a list of names, not one text.")
    return list(names)
