"""What the reference packages say of model files, as JSON on standard output, and model files that they write."""

import hashlib
import json
import os
import sys

import gguf
import numpy as np
import safetensors
from safetensors.numpy import save_file


def sha256(data):
    return hashlib.sha256(bytes(data)).hexdigest()


def describe_safetensors(path):
    """name -> dtype, shape and digest of the bytes, as the reference reader hands them out."""
    with open(path, "rb") as file:
        tensors = safetensors.deserialize(file.read())
    return {
        name: {"dtype": t["dtype"], "shape": t["shape"], "sha256": sha256(t["data"])}
        for name, t in tensors
    }


def accepts_safetensors(directory):
    """file -> what the reference reader makes of it, or null where it refuses."""
    out = {}
    for name in sorted(os.listdir(directory)):
        try:
            out[name] = describe_safetensors(os.path.join(directory, name))
        except Exception:
            out[name] = None
    return out


def describe_gguf(path):
    reader = gguf.GGUFReader(path)
    return {
        t.name: {
            "dtype": t.tensor_type.name,
            "shape": [int(n) for n in reversed(t.shape)],
            "offset": int(t.data_offset),
            "length": int(t.n_bytes),
            "sha256": sha256(t.data.tobytes()),
        }
        for t in reader.tensors
    }


def write_sharded(directory):
    """Three shards with an index, as the hub has them."""
    rng = np.random.default_rng(1)
    weight_map = {}
    for no in range(3):
        shard = f"model-{no + 1:05d}-of-00003.safetensors"
        tensors = {
            f"layer.{no}.w": rng.standard_normal((16, 8)).astype(np.float32),
            f"layer.{no}.b": rng.standard_normal(8).astype(np.float16),
            f"layer.{no}.i": rng.integers(0, 255, (3, 5), dtype=np.uint8),
            f"layer.{no}.scalar": np.array(no, dtype=np.int64),
        }
        save_file(tensors, os.path.join(directory, shard), metadata={"format": "np"})
        weight_map.update({name: shard for name in tensors})
    index = {"metadata": {"total_size": 3 * (512 + 16 + 15 + 8)}, "weight_map": weight_map}
    with open(os.path.join(directory, "model.safetensors.index.json"), "w") as file:
        json.dump(index, file, indent=2, sort_keys=True)
    return sorted(set(weight_map.values()))


QUANTISED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4", "BF16", "F16", "F32"]


def write_gguf(path, split_max_tensors=0):
    """Every ggml type: really quantised where the package can, else blocks of random bytes."""
    rng = np.random.default_rng(2)
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=int(split_max_tensors))
    writer.add_name("test")
    if not split_max_tensors:
        # In a split model the package writes the key into the first part only, which breaks the others.
        writer.add_custom_alignment(64)
    writer.add_token_list([f"token-{i}" for i in range(5000)])
    writer.add_array("scores", [0.5] * 100)
    for kind in gguf.GGMLQuantizationType:
        values = rng.standard_normal((6, 512)).astype(np.float32)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if kind.name in QUANTISED:
            data = gguf.quants.quantize(values, kind)
        else:
            data = rng.integers(0, 255, (6, 512 // block * size), dtype=np.uint8)
        writer.add_tensor(f"blk.{kind.name}", data, raw_dtype=kind)
    writer.add_tensor("vector", np.arange(7, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    directory = os.path.dirname(path)
    return sorted(name for name in os.listdir(directory) if name.endswith(".gguf"))


COMMANDS = {
    "describe-safetensors": describe_safetensors,
    "accepts-safetensors": accepts_safetensors,
    "describe-gguf": describe_gguf,
    "write-sharded": write_sharded,
    "write-gguf": write_gguf,
}

if __name__ == "__main__":
    json.dump(COMMANDS[sys.argv[1]](*sys.argv[2:]), sys.stdout)
