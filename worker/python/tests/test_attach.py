"""Goal: what a worker sees of an attached model. Method: a real peer with a memfd; every byte is compared."""

from __future__ import annotations

import gc
import json
import os
import warnings

import pytest
from peer import CHUNK, DIGEST, MANIFEST, TENSORS

import daxserve

numpy = pytest.importorskip("numpy")


def test_every_tensor_has_the_bytes_of_the_source(peer):
    with daxserve.attach("org/m", peer.path) as m:
        assert list(m) == [t[0] for t in TENSORS] + ["far"]
        for name, info in m.tensors.items():
            expected = peer.region.expected(name)
            assert bytes(m.buffer(name)) == expected, name
            assert m[name].tobytes() == expected, name
            assert m.numpy(name, raw=True).tobytes() == expected, name
            assert info.nbytes == info.length == len(expected)


@pytest.mark.parametrize("alignment", [4096, CHUNK, 16 * CHUNK])
def test_mappings_begin_and_end_at_the_regions_alignment(peer, alignment):
    def script(c):
        c.grant(lambda h: h["region"].update(mapAlignment=alignment))
        c.wait_closed()

    peer.script = script
    with daxserve.attach("org/m", peer.path) as m:
        for name in m:
            assert bytes(m.buffer(name)) == peer.region.expected(name)
        with open("/proc/self/maps", encoding="utf8") as maps:
            mine = [line.split() for line in maps if "daxserve-test-region" in line]
        assert {line[1] for line in mine} == {"r--s"}
        for line in mine:
            start, end = (int(part, 16) for part in line[0].split("-"))
            assert int(line[2], 16) % alignment == 0 and (end - start) % alignment == 0


def test_arrays_have_type_and_shape(peer):
    with daxserve.attach("org/m", peer.path) as m:
        assert (m["f32"].dtype, m["f32"].shape) == (numpy.float32, (2, 3))
        assert (m["bool"].dtype, m["scalar"].shape, m["scalar"].dtype) == (bool, (), numpy.int64)
        assert (m["empty"].shape, m["c64"].dtype) == ((0, 5), numpy.complex64)
        assert m["odd"].tolist() == numpy.frombuffer(peer.region.expected("odd"), "<f4").tolist()


def test_types_that_numpy_lacks(peer):
    with daxserve.attach("org/m", peer.path) as m:
        raw = m.numpy("bf16", raw=True)
        assert isinstance(raw, daxserve.RawArray)
        assert (raw.dtype, raw.shape, raw.tensor.dtype, raw.tensor.shape) == (numpy.uint8, (16,), "BF16", (2, 4))
        assert raw[2:4].tensor is None
        assert isinstance(m["q4"], daxserve.RawArray) and m["q4"].tensor.dtype == "Q4_0"
        assert isinstance(m["f4"], daxserve.RawArray)


def test_ml_dtypes_stands_in_when_installed(peer):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with daxserve.attach("org/m", peer.path) as m:
        assert (m["bf16"].dtype, m["bf16"].shape) == (ml_dtypes.bfloat16, (2, 4))
        assert m["f8"].dtype == ml_dtypes.float8_e4m3fn
        assert m["f8e5"].dtype == ml_dtypes.float8_e5m2


def test_without_ml_dtypes_bfloat16_is_raw(peer, monkeypatch):
    import sys

    from daxserve import dtypes

    monkeypatch.setattr(dtypes, "_numpy_cache", {})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with daxserve.attach("org/m", peer.path) as m:
        assert isinstance(m["bf16"], daxserve.RawArray)
        assert m["f32"].dtype == numpy.float32


def test_without_numpy_the_error_says_what_to_do(peer, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "numpy", None)
    with daxserve.attach("org/m", peer.path) as m:
        with pytest.raises(daxserve.DaxserveError, match="pip install numpy") as caught:
            m["f32"]
        assert caught.value.code == "WORKER_NEEDS_NUMPY"
        assert bytes(m.buffer("f32")) == peer.region.expected("f32")


def test_without_torch_the_error_says_what_to_do(peer, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with daxserve.attach("org/m", peer.path) as m:
        with pytest.raises(daxserve.DaxserveError) as caught:
            m.torch("f32")
        assert caught.value.code == "WORKER_NEEDS_TORCH"


def test_torch_views(peer):
    torch = pytest.importorskip("torch", reason="torch is not installed in this interpreter")
    with daxserve.attach("org/m", peer.path) as m, warnings.catch_warnings():
        warnings.simplefilter("error")
        f8 = getattr(torch, "float8_e4m3fn", None)  # since torch 2.1, as the larger unsigned integers
        without = ("F4", "Q4_0") if f8 else ("F4", "Q4_0", "F8_E4M3", "F8_E5M2", "U16", "U32", "U64")
        state = daxserve.torch_state_dict(m, names=[n for n in m if m.tensors[n].dtype not in without])
        for name, tensor in state.items():
            assert tuple(tensor.shape) == m.tensors[name].shape
            flat = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else tensor
            assert bytes(flat.tolist()) == peer.region.expected(name), name
        assert state["bf16"].dtype == torch.bfloat16
        assert not f8 or state["f8"].dtype == f8
        address = numpy.frombuffer(m.buffer("f32"), numpy.uint8).ctypes.data
        assert state["f32"].data_ptr() == address
        with pytest.raises(daxserve.DaxserveError) as caught:
            m.torch("q4")
        assert caught.value.code == "WORKER_NO_DTYPE"
        assert m.torch("q4", raw=True).shape == (18,)


def test_writing_through_a_view_fails(peer):
    with daxserve.attach("org/m", peer.path) as m:
        array = m["f32"]
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(TypeError):
            m.buffer("f32")[0] = 1
        with pytest.raises(TypeError):
            m.file("config.json")[0] = 1
        with pytest.raises(TypeError):
            m.tensors["f32"] = None
        assert array.tobytes() == peer.region.expected("f32")


def test_files_and_facts(peer):
    with daxserve.attach("org/m", peer.path) as m:
        assert json.loads(bytes(m.file("config.json"))) == {"hidden_size": 384}
        assert m.file("far.safetensors").nbytes == 3 * CHUNK + 5
        assert m.file("empty.txt").nbytes == 0
        assert json.loads(bytes(m.file(MANIFEST)))["version"] == 1
        assert set(m.files) == {"w.safetensors", "config.json", "far.safetensors", "empty.txt"}
        assert m.files["config.json"].size == 20
        assert (m.name, m.digest, m.revision, m.format) == ("org/m:latest", DIGEST, "abc123", "safetensors")
        assert m.metadata == {"made": "here"}
        assert "12 tensors" not in repr(m) and "13 tensors" in repr(m)


def test_it_is_a_mapping(peer):
    with daxserve.attach("org/m", peer.path) as m:
        assert "f32" in m and "nope" not in m and len(m) == 13
        assert m.get("nope") is None
        assert dict(m.items())["f32"].shape == (2, 3)
        assert m == m and len({m, m}) == 1
        with pytest.raises(KeyError):
            m["nope"]
        with pytest.raises(daxserve.NotFoundError) as caught:
            m.buffer("nope")
        assert caught.value.code == "WORKER_NO_TENSOR" and "'nope'" in str(caught.value)
        with pytest.raises(daxserve.NotFoundError) as caught:
            m.file("nope")
        assert caught.value.code == "WORKER_NO_FILE"


def test_only_the_files_asked_for_are_attached(peer):
    with daxserve.attach("org/m", peer.path, files=["far.safetensors"]) as m:
        assert list(m) == ["far"] and set(m.files) == {"far.safetensors"}
        assert bytes(m["far"]) == peer.region.expected("far")
    with daxserve.attach("org/m", peer.path, tensors=["f32"]) as m:
        assert list(m) == ["f32"]
    assert peer.requests[0]["files"] == ["far.safetensors"] and peer.requests[1]["tensors"] == ["f32"]
    with pytest.raises(daxserve.DaxserveError, match="list of names"):
        daxserve.attach("org/m", peer.path, tensors="f32")


def test_views_outlive_the_model(peer):
    m = daxserve.attach("org/m", peer.path)
    array, view = m["f32"], m.buffer("far")
    m.close()
    m.close()
    for use in (lambda: m["f32"], lambda: m.file("config.json"), lambda: m.buffer("f32")):
        with pytest.raises(daxserve.DaxserveError) as caught:
            use()
        assert caught.value.code == "WORKER_CLOSED"
    assert m.closed and not m.attached and "closed" in repr(m)
    del m
    gc.collect()
    assert array.tobytes() == peer.region.expected("f32") and bytes(view) == peer.region.expected("far")


def test_no_descriptor_stays_behind(peer):
    gc.collect()
    before = _region_descriptors()
    for _ in range(5):
        daxserve.attach("org/m", peer.path).close()
    gc.collect()
    # The peer's thread closes its own copy after the answer has gone.
    peer.wait_for(lambda: not peer.open)
    assert _region_descriptors() == before


def _region_descriptors():
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the descriptor of the listing itself
    return sum("daxserve-test-region" in link for link in links)


def test_a_reserved_handle(peer):
    with daxserve.attach_handle("h1", "secret", peer.path) as m:
        assert m["f32"].tobytes() == peer.region.expected("f32")
    assert peer.requests == [{"v": 1, "op": "attach", "handle": "h1", "token": "secret"}]


def test_the_command_prints_the_tensors(peer, capsys):
    from daxserve.__main__ import main

    assert main(["attach", "org/m", "--socket", peer.path]) == 0
    out = capsys.readouterr().out
    assert "TENSOR" in out and "bf16" in out and "[2, 4]" in out and "13 tensors" in out
    assert main(["attach", "org/m", "--socket", peer.path, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tensors"]) == 13
    assert main(["attach", "org/m", "--socket", "/nonexistent/s.sock"]) == 1
    assert "WORKER_NO_SERVICE" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
