"""Goal: the connection is the lease, the kernel's lock is the fence. Method: a peer with real range locks, real forks."""

from __future__ import annotations

import gc
import os
import queue
import socket
import subprocess
import sys
import threading

import pytest
from peer import PATIENCE, Peer, hold

import daxserve

HERE = os.path.dirname(__file__)


def script_with_event(data):
    def script(c):
        c.grant()
        c.send(data)
        c.wait_closed()

    return script


def test_close_ends_the_connection_and_the_last_view_frees_the_lock(peer):
    m = daxserve.attach("org/m", peer.path)
    assert m.attached and not peer.region.may_reuse()
    view = m.buffer("f32")
    m.close()
    peer.wait_for(lambda: not peer.open)
    assert not peer.region.may_reuse()
    del view
    gc.collect()
    assert peer.region.may_reuse()


def test_close_without_the_thread(peer):
    m = daxserve.attach("org/m", peer.path, reattach=False)
    m.close()
    peer.wait_for(lambda: not peer.open)


def test_a_forgotten_model_ends_its_lease(peer):
    m = daxserve.attach("org/m", peer.path)
    del m
    gc.collect()
    peer.wait_for(lambda: not peer.open)
    assert peer.region.may_reuse()


def test_draining_is_told_once(peer):
    events = queue.Queue()
    peer.script = script_with_event(b'{"event":"draining"}\n{"event":"draining"}\n')
    with daxserve.attach("org/m", peer.path) as m:
        m.on_draining(lambda: events.put("draining"))
        assert events.get(timeout=PATIENCE) == "draining"
        assert m.draining
        m.on_draining(lambda: events.put("late"))
        assert events.get(timeout=PATIENCE) == "late"
        assert events.empty()


def test_an_event_right_behind_the_answer(peer):
    events = queue.Queue()
    peer.script = lambda c: (c.grant(tail=b'{"event":"draining"}\n'), c.wait_closed())
    with daxserve.attach("org/m", peer.path) as m:
        m.on_draining(lambda: events.put("draining"))
        assert events.get(timeout=PATIENCE) == "draining"


@pytest.mark.parametrize("noise", [b"garbage\n", b"\xff\xfe\n", b"[]\n", b'{"event":7}\n', b'{"event":"new"}\n', b"\n" * 99])
def test_noise_between_events_is_ignored(peer, noise):
    events = queue.Queue()
    peer.script = script_with_event(noise + b'{"event":"draining"}\n')
    with daxserve.attach("org/m", peer.path) as m:
        m.on_draining(lambda: events.put("draining"))
        assert events.get(timeout=PATIENCE) == "draining"


def test_a_callback_that_fails_does_not_end_the_thread(peer, caplog):
    events = queue.Queue()
    gate = threading.Event()

    def script(c):
        c.grant()
        gate.wait(PATIENCE)
        c.send(b'{"event":"draining"}\n')
        c.wait_closed()

    peer.script = script
    with daxserve.attach("org/m", peer.path) as m:
        m.on_draining(lambda: 1 / 0)
        m.on_draining(lambda: events.put("second"))
        gate.set()
        assert events.get(timeout=PATIENCE) == "second"


def restart(peer, script=hold):
    again = Peer(peer.path, peer.region)
    again.script = script
    return again.start()


def test_it_attaches_again_by_digest_when_the_service_is_back(peer):
    events = queue.Queue()
    with daxserve.attach("org/m", peer.path, files=["w.safetensors"]) as m:
        m.on_detached(lambda: events.put("detached"))
        m.on_reattached(lambda: events.put("reattached"))
        view = m.buffer("f32")
        peer.stop()
        assert events.get(timeout=PATIENCE) == "detached"
        assert not m.attached and not peer.region.may_reuse()
        assert bytes(view) == bytes(m.buffer("f32")) == peer.region.expected("f32")
        again = restart(peer)
        try:
            assert events.get(timeout=PATIENCE) == "reattached"
            assert m.attached
            request = {"v": 1, "op": "attach", "model": "org/m:latest", "digest": m.digest, "files": ["w.safetensors"]}
            assert again.requests == [request]
            assert m["f32"].tobytes() == peer.region.expected("f32")
            m.close()
            again.wait_for(lambda: not again.open)
        finally:
            again.stop()


def test_a_service_that_refuses_at_first_is_asked_again(peer):
    events = queue.Queue()
    with daxserve.attach("org/m", peer.path) as m:
        m.on_reattached(lambda: events.put("reattached"))
        peer.stop()
        again = Peer(peer.path, peer.region)
        again.script = lambda c: c.refuse("SERVER_STARTING") if len(again.requests) < 3 else hold(c)
        again.start()
        try:
            assert events.get(timeout=PATIENCE) == "reattached"
            assert len(again.requests) == 3
        finally:
            m.close()
            again.stop()


def test_a_name_that_moved_while_away_counts_as_draining(peer):
    events = queue.Queue()
    with daxserve.attach("org/m", peer.path) as m:
        m.on_draining(lambda: events.put("draining"))
        peer.stop()
        again = restart(peer, lambda c: c.refuse("MODEL_MISMATCH"))
        try:
            assert events.get(timeout=PATIENCE) == "draining"
            assert m.draining and not m.attached
        finally:
            m.close()
            again.stop()


def moved(h):
    for file in h["buffers"][0]["files"]:
        for extent in file["extents"]:
            extent["bufferOffset"] += 4096


@pytest.mark.parametrize("change", [moved, lambda h: h["region"].update(uuid="other"), lambda h: h.clear()])
def test_a_lease_on_another_copy_is_given_back(peer, change):
    with daxserve.attach("org/m", peer.path) as m:
        peer.stop()
        again = restart(peer, lambda c: (c.grant(change), c.wait_closed()))
        try:
            again.wait_for(lambda: len(again.requests) == 1 and not again.open)
            assert not m.attached
            assert bytes(m.buffer("f32")) == peer.region.expected("f32")
        finally:
            again.stop()


def test_close_while_the_service_is_away(peer):
    m = daxserve.attach("org/m", peer.path)
    peer.stop()
    m.close()
    again = restart(peer)
    again.stop()
    assert again.requests == []


def test_waiting_for_a_service_that_starts_later(socket_path):
    service = Peer(socket_path)
    timer = threading.Timer(0.3, service.start)
    timer.start()
    try:
        with daxserve.attach("org/m", socket_path, wait=PATIENCE) as m:
            assert len(m) == 13
        request = service.requests[0]
        assert request["wait"] is True and 0 < request["timeoutSeconds"] <= PATIENCE
    finally:
        timer.join()
        service.stop()


def test_nobody_there(socket_path, monkeypatch):
    with pytest.raises(daxserve.ServiceConnectionError) as caught:
        daxserve.attach("org/m", socket_path)
    assert caught.value.code == "WORKER_NO_SERVICE" and socket_path in str(caught.value)
    monkeypatch.setenv("DAXSERVE_SOCKET", socket_path)
    with pytest.raises(daxserve.ServiceConnectionError, match=socket_path):
        daxserve.attach("org/m", wait=0.1)
    with pytest.raises(daxserve.ServiceConnectionError):
        daxserve.attach("org/m", "/tmp/" + "x" * 200)


def test_the_usual_places(monkeypatch):
    monkeypatch.delenv("DAXSERVE_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    system = "/run/daxserve/daxserve.sock"
    monkeypatch.setattr(os.path, "exists", lambda path: path == system)
    assert daxserve.default_socket_path() == system
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert daxserve.default_socket_path() == "/run/user/7/daxserve/daxserve.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert daxserve.default_socket_path() == system


def test_bad_arguments(peer):
    for options in ({"wait": -1}, {"timeout": 0}):
        with pytest.raises(daxserve.DaxserveError) as caught:
            daxserve.attach("org/m", peer.path, **options)
        assert caught.value.code == "WORKER_BAD_ARGUMENT"


def in_child(work):
    """Forks; the child runs ``work`` and leaves with its result."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 99
    try:
        status = work()
    finally:
        os._exit(status)


def test_a_forked_child_reads_and_leaves_the_lease_alone(peer):
    with daxserve.attach("org/m", peer.path) as m:
        array = m["f32"]

        def child():
            good = array.tobytes() == m["f32"].tobytes() == peer.region.expected("f32")
            alone = not m.attached
            m.on_draining(lambda: None)
            m.close()
            good = good and array.tobytes() == peer.region.expected("f32")
            return 0 if good and alone and m.closed else 1

        assert in_child(child) == 0
        assert m.attached and len(peer.open) == 1
        peer_side = peer.open[0].sock
        peer_side.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer_side.recv(1, socket.MSG_PEEK)


def test_the_end_of_a_child_does_not_end_the_lease(peer):
    with daxserve.attach("org/m", peer.path) as m:
        assert in_child(lambda: 0) == 0
        assert subprocess.run([sys.executable, "-c", "0"], check=False).returncode == 0
        assert m.attached and len(peer.open) == 1


ORPHAN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import daxserve
m = daxserve.attach("org/m", sys.argv[2])
ready, done = os.pipe()
if os.fork() == 0:
    os.close(done)
    os.read(ready, 1)                       # returns when the parent is gone
    ok = not m.attached
    print("orphan", bytes(m.buffer("f32")).hex(), ok, flush=True)
    sys.stdin.readline()
    os._exit(0)
"""


def test_the_mapping_survives_the_parents_exit(peer):
    arguments = [sys.executable, "-c", ORPHAN, os.path.dirname(HERE), peer.path]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        word, bytes_hex, alone = worker.stdout.readline().split()
        assert (word, bytes.fromhex(bytes_hex), alone) == ("orphan", peer.region.expected("f32"), "True")
        assert worker.wait() == 0
        assert not peer.region.may_reuse()
        worker.stdin.write("\n")
        worker.stdin.close()
        assert worker.stdout.read() == ""
    peer.wait_for(lambda: not peer.open)
    peer.wait_for(peer.region.may_reuse)


def test_a_killed_worker_frees_everything(peer):
    program = "import sys; sys.path.insert(0, sys.argv[1]); import daxserve\n"
    program += "m = daxserve.attach('org/m', sys.argv[2]); print('up', flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", program, os.path.dirname(HERE), peer.path]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "up\n"
        assert not peer.region.may_reuse()
        worker.kill()
    peer.wait_for(lambda: not peer.open)
    assert peer.region.may_reuse()


def test_the_thread_does_not_keep_the_process_alive(peer):
    program = "import sys; sys.path.insert(0, sys.argv[1]); import daxserve; m = daxserve.attach('org/m', sys.argv[2])"
    assert subprocess.run([sys.executable, "-c", program, os.path.dirname(HERE), peer.path], timeout=PATIENCE).returncode == 0
