/** Goal: GGUF and sharded models, and forked children, through the real service. Method: files by their own packages. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { attach } from '../../worker/node/index.ts';
import { python } from '../support/python.ts';
import { noPython } from '../support/python-env.ts';
import { Service } from '../support/service.ts';

const write = `
import sys, numpy, gguf
from safetensors.numpy import save_file
folder = sys.argv[1]
rng = numpy.random.default_rng(5)
writer = gguf.GGUFWriter(folder + "/gguf/m.gguf", "llama")
writer.add_block_count(1)
writer.add_tensor("plain", rng.standard_normal((3, 64), dtype=numpy.float32))
writer.add_tensor("half", rng.standard_normal((5, 32)).astype(numpy.float16))
kind = gguf.GGMLQuantizationType.Q8_0
writer.add_tensor("quant", gguf.quants.quantize(rng.standard_normal((4, 96), dtype=numpy.float32), kind), raw_dtype=kind)
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
for shard in (1, 2):
    name = f"{folder}/shards/model-0000{shard}-of-00002.safetensors"
    save_file({f"t{shard}.{i}": rng.standard_normal((shard, i + 1)).astype(numpy.float32) for i in range(20)}, name)
`;

const compareGguf = `
import sys, gguf, numpy, daxserve
m = daxserve.attach("gguf", sys.argv[1])
reader = gguf.GGUFReader(sys.argv[2])
assert m.format == "gguf" and len(m) == len(reader.tensors) == 3
for t in reader.tensors:
    assert bytes(m.buffer(t.name)) == t.data.tobytes(), t.name
    assert m.tensors[t.name].dtype == t.tensor_type.name, t.name
    if t.name != "quant":
        assert m[t.name].shape == t.data.shape and numpy.array_equal(m[t.name], t.data), t.name
assert isinstance(m["quant"], daxserve.RawArray)
print("equal")
`;

const forks = `
import os, sys, daxserve
m = daxserve.attach("shards", sys.argv[1])
expected = [m[name].sum() for name in m]
def child():
    good = [m[name].sum() for name in m] == expected and not m.attached
    m.close()
    os._exit(0 if good else 1)
pids = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        child()
    pids.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
print(codes, m.attached, len(m))
`;

describe.skipIf(noPython)('files of their own packages', () => {
  let service: Service;
  const env = { ...process.env, PYTHONPATH: new URL('../../worker/python', import.meta.url).pathname };
  const run = (program: string, ...args: string[]) =>
    execFileSync(python, ['-c', program, ...args], { encoding: 'utf8', env }).trim();
  beforeAll(async () => {
    service = new Service({ size: '64M' });
    for (const folder of ['gguf', 'shards']) mkdirSync(join(service.dir, folder));
    run(write, service.dir);
    const weights = [1, 2].flatMap((shard) =>
      Array.from({ length: 20 }, (_, i) => [`t${shard}.${i}`, `model-0000${shard}-of-00002.safetensors`]),
    );
    const index = { metadata: {}, weight_map: Object.fromEntries(weights) };
    writeFileSync(join(service.dir, 'shards/model.safetensors.index.json'), JSON.stringify(index));
    await service.start();
    await service.load(join(service.dir, 'gguf/m.gguf'), 'gguf');
    await service.load(join(service.dir, 'shards'), 'shards');
  });
  afterAll(() => service.dispose());

  it('GGUF tensors are what the gguf package reads', async () => {
    expect(run(compareGguf, service.socket, join(service.dir, 'gguf/m.gguf'))).toBe('equal');
    await using m = await attach('gguf', { socket: service.socket });
    expect(m.tensors.get('quant')).toMatchObject({ dtype: 'Q8_0', shape: [4, 96], length: 4 * 3 * 34 });
    expect(m.tensor('quant').array).toBeNull();
    expect(m.tensor('plain').array).toBeInstanceOf(Float32Array);
  });

  it('a sharded model is one model', () => {
    const script = new URL('../support/worker_compare.py', import.meta.url).pathname;
    const out = execFileSync(python, [script, service.socket, 'shards', join(service.dir, 'shards')], {
      encoding: 'utf8',
    });
    expect(JSON.parse(out)).toMatchObject({ tensors: 40, files: 3 });
  });

  it('only the shard that holds a tensor is attached', async () => {
    await using m = await attach('shards', { socket: service.socket, tensors: ['t2.7'] });
    expect([...m.files.keys()]).toEqual(['model-00002-of-00002.safetensors']);
    expect(m.tensor('t2.7').array?.length).toBe(16);
  });

  it('forked children read and leave the lease to their parent', () => {
    expect(run(forks, service.socket)).toBe('[0, 0, 0, 0] True 40');
  });
});
