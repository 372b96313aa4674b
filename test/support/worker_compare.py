"""Compares every byte of an attached model with its source folder, read by the safetensors package; prints one JSON line.

worker_compare.py SOCKET MODEL FOLDER [hold]: with `hold` it then follows commands on standard input (sum, close)
and prints events as they come.
"""

import hashlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "worker/python"))

import numpy  # noqa: E402
from safetensors import safe_open  # noqa: E402

import daxserve  # noqa: E402


# The safetensors package gives NumPy arrays of these; for BF16 and F8 it needs torch.
DTYPES_OF_NUMPY = {name for name, dtype in daxserve.DTYPES.items() if dtype.numpy and name != "C64"}


def tell(**facts):
    print(json.dumps(facts), flush=True)


def compare(model, folder):
    tensors = 0
    for path in sorted(folder.rglob("*.safetensors")):
        content = path.read_bytes()
        data = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:data])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            info = model.tensors[name]
            assert (info.dtype, list(info.shape)) == (entry["dtype"], entry["shape"]), name
            assert model.buffer(name) == content[data + start : data + end], name
            assert not model[name].flags.writeable, name
        tensors += len(header)
        compare_arrays(model, path, [name for name in header if header[name]["dtype"] in DTYPES_OF_NUMPY])
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert model.file(str(path.relative_to(folder))) == path.read_bytes(), path
    assert tensors == len(model) and len(files) == len(model.files), (tensors, len(model), len(files), len(model.files))
    return {"tensors": tensors, "files": len(files)}


def compare_arrays(model, path, names):
    with safe_open(path, framework="numpy") as source:
        for name in names:
            expected = source.get_tensor(name)
            assert (model[name].dtype, model[name].shape) == (expected.dtype, expected.shape), name
            assert numpy.array_equal(model[name], expected), name


def total(model):
    digest = hashlib.sha256()
    for name in model:
        digest.update(model.buffer(name))
    return digest.hexdigest()


def main():
    socket, name, folder = sys.argv[1:4]
    model = daxserve.attach(name, socket)
    tell(**compare(model, pathlib.Path(folder)), sum=total(model))
    if sys.argv[4:] != ["hold"]:
        return
    model.on_draining(lambda: tell(event="draining"))
    model.on_detached(lambda: tell(event="detached"))
    model.on_reattached(lambda: tell(event="reattached"))
    for line in sys.stdin:
        if line.strip() == "sum":
            tell(sum=total(model), attached=model.attached)
        elif line.strip() == "close":
            model.close()
            tell(closed=True)


main()
