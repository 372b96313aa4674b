"""A Python worker: attaches to a model and reads one tensor in place.

python3 docs/examples/worker.py MODEL TENSOR
"""
import os
import sys

import daxserve

model = sys.argv[1] if len(sys.argv) > 1 else "demo"
with daxserve.attach(model, wait=30) as m:
    name = sys.argv[2] if len(sys.argv) > 2 else next(iter(m.tensors))
    tensor = m.tensors[name]
    total = sum(m.buffer(name)) % 2**32
    print(f"python {os.getpid()}: {model} {tensor.dtype}{list(tensor.shape)} byte sum {total}", flush=True)
    sys.stdin.read()
