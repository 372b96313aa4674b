/** kill -9 of a worker: how long until its lease and its lock are gone and its model can be deleted. BENCH_ROUNDS. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Holder } from '../test/support/holder.ts';
import { matrices, writeSafetensors } from '../test/support/models.ts';
import { Service } from '../test/support/service.ts';
import { bar, row, title } from './report.ts';

const rounds = Number(process.env.BENCH_ROUNDS ?? 20);
const modelBytes = 64 * 2 ** 20;
const pollMs = 2;

/** Milliseconds from the kill to the first DELETE that is not refused. */
async function deathToFree(service: Service, source: string): Promise<number> {
  await service.load(source, 'm');
  const worker = new Holder(service.socket, 'm');
  await worker.next();
  const killed = performance.now();
  const exit = worker.kill();
  for (;;) {
    const { status } = await service.call('DELETE', '/models/m');
    if (status === 204) break;
    if (status !== 409) throw new Error(`DELETE answered ${status}`);
    await sleep(pollMs);
  }
  const taken = performance.now() - killed;
  await exit;
  return taken;
}

title(`kill -9 of a worker that maps ${modelBytes / 2 ** 20} MiB, until its model can be deleted`);
const service = await new Service({ size: '192M' }).start();
try {
  const source = join(service.dir, 'm.safetensors');
  writeSafetensors(source, matrices(4, modelBytes));
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) times.push(await deathToFree(service, source));
  row('kill -9 to lease and lock gone', times, 'ms');
  const longest = Math.max(...times) / 1000;
  bar('longest, seconds', longest, '<= 1', longest <= 1);
} finally {
  await service.dispose();
}
