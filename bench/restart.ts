/** Restart on a full region: from exec to ready, the source gone and its reads counted. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { matrices, writeSafetensors } from '../test/support/models.ts';
import { Service } from '../test/support/service.ts';
import { bar, row, title } from './report.ts';

const modelMiB = Number(process.env.BENCH_MODEL_MIB ?? 4096);
const runs = 10;

/** Bytes that the process has read through read-like system calls so far. */
function bytesRead(pid: number): number {
  return Number(/^rchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

title(`restart with a ready model of ${modelMiB} MiB`);
const service = await new Service({ size: `${modelMiB + 256}M` }).start();
try {
  await service.stop();
  await service.start();
  const emptyReads = bytesRead(service.child?.pid ?? 0);
  const source = join(service.dir, 'model.safetensors');
  writeSafetensors(source, matrices(300, modelMiB * 2 ** 20));
  await service.load(source, 'bench');
  rmSync(source);
  const samples: number[] = [];
  const extraReads: number[] = [];
  for (let i = 0; i < runs; i++) {
    await service.stop();
    const start = performance.now();
    await service.start();
    samples.push(performance.now() - start);
    extraReads.push((bytesRead(service.child?.pid ?? 0) - emptyReads) / 2 ** 20);
    const { body } = await service.call('GET', '/models/bench');
    if (body.state !== 'ready') throw new Error(`the model is ${body.state}`);
  }
  const { median } = row('exec to ready line', samples, 'ms');
  const reads = row('read beyond a restart on an empty region', extraReads, 'MiB').median;
  bar('restart, ms', median, '< 1000', median < 1000);
  bar('source reads (the source is deleted), MiB', reads, 'none: < 1 MiB of program noise', reads < 1);
} finally {
  await service.dispose();
}
