"""Goal: a wrong, broken or hostile service gives one clear error and leaks nothing. Method: a peer that misbehaves."""

from __future__ import annotations

import json
import os
import time

import pytest
from peer import CHUNK, MANIFEST

import daxserve


def file_of(handle, path):
    return next(f for f in handle["buffers"][0]["files"] if f["path"] == path)


def change_extent(key, value):
    return lambda h: file_of(h, "w.safetensors")["extents"][0].update({key: value})


def drop_file(path):
    def change(h):
        h["buffers"][0]["files"] = [f for f in h["buffers"][0]["files"] if f["path"] != path]

    return change


BAD_HANDLES = {
    "another kind": lambda h: h.update(kind="dmabuf"),
    "no buffers": lambda h: h.update(buffers=[]),
    "two buffers": lambda h: h.update(buffers=h["buffers"] * 2),
    "buffers of no type": lambda h: h.update(buffers=[7]),
    "no region": lambda h: h.pop("region"),
    "no digest": lambda h: h.pop("digest"),
    "size is a text": lambda h: h["region"].update(size="big"),
    "size is true": lambda h: h["region"].update(size=True),
    "size is negative": lambda h: h["region"].update(size=-1),
    "size beyond all bounds": lambda h: h["region"].update(size=1 << 63),
    "alignment 0": lambda h: h["region"].update(mapAlignment=0),
    "alignment below a page": lambda h: h["region"].update(mapAlignment=512),
    "files of no type": lambda h: h["buffers"][0].update(files={}),
    "a file of no type": lambda h: h["buffers"][0].update(files=["w.safetensors"]),
    "extents of no type": lambda h: file_of(h, "w.safetensors").update(extents=None),
    "an extent of no type": lambda h: file_of(h, "w.safetensors").update(extents=[1]),
    "offset outside the region": change_extent("bufferOffset", 48 * CHUNK),
    "offset that overflows": change_extent("bufferOffset", (1 << 64) - 4096),
    "negative offset": change_extent("bufferOffset", -4096),
    "fraction": change_extent("bufferOffset", 4096.5),
    "length beyond the file": change_extent("length", 1 << 40),
    "file offset beyond the file": change_extent("fileOffset", 1 << 40),
    "extents that overlap": lambda h: file_of(h, "w.safetensors").update(
        extents=file_of(h, "w.safetensors")["extents"] * 2
    ),
    "descriptor smaller than it says": lambda h: (
        h["region"].update(size=1 << 40),
        change_extent("bufferOffset", 1 << 39)(h),
    ),
    "no manifest": drop_file(MANIFEST),
}


@pytest.mark.parametrize("fault", BAD_HANDLES)
def test_a_bad_handle_is_refused(peer, fault):
    peer.script = lambda c: (c.grant(BAD_HANDLES[fault]), c.wait_closed())
    with pytest.raises(daxserve.DaxserveError) as caught:
        daxserve.attach("org/m", peer.path)
    assert caught.value.code == "WORKER_BAD_HANDLE"
    peer.wait_for(lambda: not peer.open)
    assert peer.region.may_reuse()


def answer(data, fds=0):
    def script(c):
        c.send(data, [c.peer.region.fd] * fds)
        c.wait_closed()

    return script


BAD_ANSWERS = {
    "garbage": answer(b"\x00\xff\xfe garbage\n"),
    "garbage with a descriptor": answer(b"garbage\n", 1),
    "an array": answer(b"[]\n"),
    "a number": answer(b"1\n"),
    "an empty line": answer(b"\n"),
    "ok without a handle": answer(b'{"ok":true}\n', 1),
    "a refusal without a code": answer(b'{"ok":false}\n'),
    "deep nesting": answer(b"[" * 100_000 + b"\n"),
    "bad UTF-8": answer(b'{"ok":false,"code":"\xff"}\n'),
}


@pytest.mark.parametrize("fault", BAD_ANSWERS)
def test_an_answer_outside_the_protocol_is_refused(peer, fault):
    peer.script = BAD_ANSWERS[fault]
    with pytest.raises(daxserve.DaxserveError) as caught:
        daxserve.attach("org/m", peer.path)
    assert caught.value.code == "WORKER_BAD_ANSWER"
    peer.wait_for(lambda: not peer.open)


def test_descriptors_must_be_one(peer):
    for count in (0, 2):
        line = json.dumps({"ok": True, "handle": peer.region.handle()}).encode() + b"\n"
        peer.script = answer(line, count)
        with pytest.raises(daxserve.DaxserveError, match=f"{count} descriptors") as caught:
            daxserve.attach("org/m", peer.path)
        assert caught.value.code == "WORKER_BAD_HANDLE"


def test_too_many_descriptors(peer):
    before = len(os.listdir("/proc/self/fd"))
    peer.script = answer(b"{}\n", 200)
    with pytest.raises(daxserve.DaxserveError) as caught:
        daxserve.attach("org/m", peer.path)
    assert caught.value.code == "WORKER_BAD_ANSWER"
    peer.wait_for(lambda: not peer.open)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_descriptor_that_is_no_memory(peer):
    def script(c):
        reader, writer = os.pipe()
        c.send(json.dumps({"ok": True, "handle": peer.region.handle()}).encode() + b"\n", [reader])
        os.close(reader)
        os.close(writer)
        c.wait_closed()

    peer.script = script
    with pytest.raises(daxserve.DaxserveError) as caught:
        daxserve.attach("org/m", peer.path)
    assert caught.value.code == "WORKER_MAP_FAILED"


def test_half_a_line_then_silence(peer):
    peer.script = answer(b'{"ok":tr')
    with pytest.raises(daxserve.ServiceConnectionError) as caught:
        daxserve.attach("org/m", peer.path, timeout=0.2)
    assert caught.value.code == "WORKER_TIMEOUT"


@pytest.mark.parametrize("sent", [b"", b'{"ok":true,"handle":{'])
def test_closed_before_the_line_ended(peer, sent):
    peer.script = lambda c: c.send(sent, [c.peer.region.fd]) if sent else None
    with pytest.raises(daxserve.ServiceConnectionError) as caught:
        daxserve.attach("org/m", peer.path)
    assert caught.value.code == "WORKER_LOST"


def test_a_line_without_end(peer, monkeypatch):
    from daxserve import protocol

    monkeypatch.setattr(protocol, "ANSWER_BYTES_MAX", 1 << 20)
    peer.script = answer(b"x" * (2 << 20))
    with pytest.raises(daxserve.DaxserveError) as caught:
        daxserve.attach("org/m", peer.path)
    assert caught.value.code == "WORKER_BAD_ANSWER"


def test_an_answer_in_many_pieces(peer):
    def script(c):
        line = json.dumps({"ok": True, "handle": peer.region.handle()}).encode() + b"\n"
        fd = peer.region.locked_fd()
        c.send(line[:1], [fd])
        os.close(fd)
        for start in range(1, len(line), 97):
            c.send(line[start : start + 97])
            time.sleep(0)
        c.wait_closed()

    peer.script = script
    with daxserve.attach("org/m", peer.path) as m:
        assert bytes(m.buffer("f32")) == peer.region.expected("f32")


def write_manifest(peer, change):
    manifest = json.loads(json.dumps(peer.region.manifest))
    data = change(manifest)
    if data is None:
        data = json.dumps(manifest).encode()
    peer.region._put(MANIFEST, data, CHUNK + 64 * 1024)


BAD_MANIFESTS = {
    "not JSON": lambda m: b"\x00" * 100,
    "an array": lambda m: b"[]",
    "empty": lambda m: b"",
    "another version": lambda m: m.update(version=2),
    "no tensors": lambda m: m.pop("tensors") and None,
    "a tensor without a name": lambda m: m["tensors"][0].pop("name") and None,
    "a shape that is a number": lambda m: m["tensors"][0].update(shape=4),
}


@pytest.mark.parametrize("fault", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused(peer, fault):
    write_manifest(peer, BAD_MANIFESTS[fault])
    with pytest.raises(daxserve.DaxserveError) as caught:
        daxserve.attach("org/m", peer.path)
    assert caught.value.code == "WORKER_BAD_MANIFEST"
    peer.wait_for(lambda: not peer.open)


BAD_TENSORS = {
    "behind the end of the file": {"offset": 1 << 40},
    "negative offset": {"offset": -8},
    "negative length": {"length": -24},
    "length that does not fit the shape": {"length": 20},
    "shape that does not fit the length": {"shape": [1 << 62, 1 << 62]},
    "negative shape": {"shape": [-2, -3]},
    "fractional shape": {"shape": [1.5, 4]},
}


@pytest.mark.parametrize("fault", BAD_TENSORS)
def test_a_tensor_that_contradicts_itself_is_refused_when_used(peer, fault):
    write_manifest(peer, lambda m: m["tensors"][1].update(BAD_TENSORS[fault]))
    with daxserve.attach("org/m", peer.path) as m:
        for use in (m.buffer, m.numpy):
            with pytest.raises(daxserve.DaxserveError) as caught:
                use("f32")
            assert caught.value.code == "WORKER_BAD_MANIFEST"
        assert bytes(m.buffer("bool")) == peer.region.expected("bool")


def test_bytes_in_two_pieces_are_not_joined_silently(peer):
    def split(h):
        f = file_of(h, "w.safetensors")
        f["extents"] = [
            {"fileOffset": 0, "bufferOffset": CHUNK, "length": 10},
            {"fileOffset": 10, "bufferOffset": 3 * CHUNK, "length": f["size"] - 10},
        ]

    peer.script = lambda c: (c.grant(split), c.wait_closed())
    with daxserve.attach("org/m", peer.path) as m:
        assert bytes(m.buffer("bool")) == peer.region.expected("bool")
        with pytest.raises(daxserve.DaxserveError) as caught:
            m["f32"]
        assert caught.value.code == "WORKER_NOT_CONTIGUOUS"


def test_extents_that_touch_are_one(peer):
    def split(h):
        f = file_of(h, "w.safetensors")
        f["extents"] = [
            {"fileOffset": 0, "bufferOffset": CHUNK, "length": 10},
            {"fileOffset": 10, "bufferOffset": CHUNK + 10, "length": f["size"] - 10},
        ]

    peer.script = lambda c: (c.grant(split), c.wait_closed())
    with daxserve.attach("org/m", peer.path) as m:
        assert bytes(m.buffer("f32")) == peer.region.expected("f32")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("MODEL_NOT_FOUND", daxserve.NotFoundError),
        ("TENSOR_NOT_FOUND", daxserve.NotFoundError),
        ("SOURCE_NOT_FOUND", daxserve.NotFoundError),
        ("MODEL_NOT_READY", daxserve.NotReadyError),
        ("MODEL_FAILED", daxserve.NotReadyError),
        ("MODEL_WAIT_TIMEOUT", daxserve.NotReadyError),
        ("SOCKET_UID", daxserve.DaxserveError),
        ("SOMETHING_NEW", daxserve.DaxserveError),
    ],
)
def test_refusals_keep_the_code_of_the_service(peer, code, kind):
    peer.script = lambda c: c.refuse(code)
    with pytest.raises(daxserve.DaxserveError) as caught:
        daxserve.attach("org/m", peer.path)
    assert type(caught.value) is kind and caught.value.code == code and str(caught.value) == f"No. [{code}]"
