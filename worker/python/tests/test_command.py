"""Goal: `python -m daxserve` behaves as a command in a pipeline. Method: a real peer, the command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import daxserve


def test_a_reader_that_closes_the_pipe_early_is_no_failure(peer):
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "daxserve", "attach", "org/m", "--socket", peer.path]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, cwd=Path(daxserve.__file__).parents[1])
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")
