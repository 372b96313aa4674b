/** Attach: from the socket request to mapped tensors, 300 tensors, in Node and in Python, over model sizes. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { matrices, writeSafetensors } from '../test/support/models.ts';
import { Service } from '../test/support/service.ts';
import { attach } from '../worker/node/index.ts';
import { bar, row, title } from './report.ts';

const attaches = 200;
const sizesMiB = (process.env.BENCH_SIZES_MIB ?? '1,256,4096').split(',').map(Number);

const pythonLoop = `
import sys, time, json, daxserve
model, n = sys.argv[1], int(sys.argv[2])
samples = []
for _ in range(n):
    t = time.perf_counter()
    m = daxserve.attach(model)
    assert len(m.tensors) == 300
    m.buffer("layer.7.weight")[0]
    samples.append((time.perf_counter() - t) * 1000)
    m.close()
print(json.dumps(samples))
`;

async function nodeSamples(socket: string, model: string): Promise<number[]> {
  const samples: number[] = [];
  for (let i = 0; i < attaches; i++) {
    const start = performance.now();
    const m = await attach(model, { socket });
    if (m.tensor('layer.7.weight').bytes?.[0] === undefined) throw new Error('no bytes');
    samples.push(performance.now() - start);
    await m.close();
  }
  return samples;
}

function pythonSamples(socket: string, model: string): number[] {
  const env = { ...process.env, DAXSERVE_SOCKET: socket, PYTHONPATH: 'worker/python' };
  const run = spawnSync('python3', ['-c', pythonLoop, model, String(attaches)], { env, encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as number[];
}

title('attach: socket request to first byte of a tensor, 300 tensors');
const service = await new Service({ size: `${Math.max(...sizesMiB) + 256}M` }).start();
try {
  const medians: Record<string, number[]> = { node: [], python: [] };
  for (const size of sizesMiB) {
    const path = join(service.dir, 'model.safetensors');
    writeSafetensors(path, matrices(300, size * 2 ** 20));
    await service.load(path, 'bench');
    rmSync(path);
    await nodeSamples(service.socket, 'bench');
    medians.node?.push(row(`Node, ${size} MiB`, await nodeSamples(service.socket, 'bench'), 'ms').median);
    medians.python?.push(row(`Python, ${size} MiB`, pythonSamples(service.socket, 'bench'), 'ms').median);
    await service.call('DELETE', '/models/bench');
  }
  for (const [language, values] of Object.entries(medians)) {
    const worst = Math.max(...values);
    bar(`${language}: median attach, largest of all sizes, ms`, worst, '< 2', worst < 2);
    const growth = (values.at(-1) ?? 0) / (values[0] ?? 1);
    bar(`${language}: largest model / smallest model`, growth, 'flat, <= 1.5', growth <= 1.5);
  }
} finally {
  await service.dispose();
}
