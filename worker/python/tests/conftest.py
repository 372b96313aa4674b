from __future__ import annotations

import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))
sys.path.insert(0, os.path.dirname(__file__))

from peer import Peer  # noqa: E402


@pytest.fixture
def socket_path():
    """A short path (sun_path holds 107 bytes) that nobody listens on yet."""
    folder = tempfile.mkdtemp(prefix="daxw-")
    yield os.path.join(folder, "s.sock")
    shutil.rmtree(folder)


@pytest.fixture
def peer(socket_path):
    service = Peer(socket_path).start()
    yield service
    service.stop()
    os.close(service.region.fd)
