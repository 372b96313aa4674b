"""Errors of the worker library: one class per way to react, one code per reason.

Refusals of the service keep the service's code (``MODEL_NOT_FOUND``, ...); the codes of ``WORKER_ERRORS``
are this library's own. Every message is one sentence that says what to do.
"""

from __future__ import annotations

WORKER_ERRORS = {
    "WORKER_NO_SERVICE": "No service answers on the socket",
    "WORKER_LOST": "The service closed the connection",
    "WORKER_TIMEOUT": "The service did not answer in time",
    "WORKER_BAD_ARGUMENT": "An argument is not valid",
    "WORKER_BAD_ANSWER": "The answer breaks the worker protocol",
    "WORKER_BAD_HANDLE": "The handle does not fit its descriptor",
    "WORKER_BAD_MANIFEST": "The manifest breaks its schema",
    "WORKER_MAP_FAILED": "The region could not be mapped",
    "WORKER_CLOSED": "The model is closed",
    "WORKER_NO_TENSOR": "There is no such tensor in the attached files",
    "WORKER_NO_FILE": "There is no such file in the attached files",
    "WORKER_NO_DTYPE": "The element type has no counterpart here",
    "WORKER_NOT_CONTIGUOUS": "The bytes do not lie in one piece",
    "WORKER_NEEDS_NUMPY": "NumPy is not installed",
    "WORKER_NEEDS_TORCH": "PyTorch is not installed",
}


class DaxserveError(Exception):
    """Base of every error raised on purpose. ``code`` is stable, the text is for people."""

    code: str

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


class NotFoundError(DaxserveError, KeyError):
    """No such model, source, handle, tensor or file. Also a ``KeyError``."""

    __str__ = DaxserveError.__str__


class NotReadyError(DaxserveError):
    """The model exists but cannot be attached now: loading, failed, draining, or the wait ran out."""


class ServiceConnectionError(DaxserveError):
    """The service could not be reached, or went away before it answered."""


_NOT_READY = {
    "MODEL_NOT_READY",
    "MODEL_FAILED",
    "MODEL_CANCELLED",
    "MODEL_WAIT_TIMEOUT",
    "SERVER_STARTING",
    "SERVER_STOPPING",
}
_CONNECTION = {"WORKER_NO_SERVICE", "WORKER_LOST", "WORKER_TIMEOUT"}
_NOT_FOUND = {"WORKER_NO_TENSOR", "WORKER_NO_FILE"}


def error_for(code: str, message: str) -> DaxserveError:
    """The error of the class that fits ``code``."""
    if code in _CONNECTION:
        return ServiceConnectionError(code, message)
    if code in _NOT_READY:
        return NotReadyError(code, message)
    if code in _NOT_FOUND or code.endswith("_NOT_FOUND"):
        return NotFoundError(code, message)
    return DaxserveError(code, message)
