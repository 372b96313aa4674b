/** Bar: a scrape with 1,000 models takes less than 20 ms. The store is a list in memory; the metrics are the service's own. */

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { Region } from '../daxfs/region.ts';
import { Lifecycle } from '../server/lifecycle.ts';
import { Metrics } from '../server/metrics.ts';
import { regionView } from '../server/region-view.ts';
import { openStore } from '../server/store/open-store.ts';
import { bar, row, title } from './report.ts';

const MODELS = 1000;
const SCRAPES = 50;

title(`a scrape with ${MODELS} models in a region, milliseconds`);
const folder = mkdtempSync(join(tmpdir(), 'daxserve-bench-'));
const path = `/dev/shm/daxserve-bench-${randomBytes(6).toString('hex')}`;
// Each content takes a chunk of 2 MiB, so 100 contents carry ten names each.
const region = await Region.create({ path, size: 512 * 2 ** 20, capacities: { contents: 256, names: 4096 } });
const log = pino({ level: 'silent' });
const opened = await openStore({ region, sources: { roots: [folder] }, evict: false, log });
for (let content = 0; content < MODELS / 10; content++) {
  const source = join(folder, `file-${content}.bin.txt`);
  writeFileSync(source, randomBytes(64));
  for (let name = 0; name < 10; name++) {
    await opened.store.load({ source, name: `org-${content}/model-${name}` });
    await opened.store.settled(`org-${content}/model-${name}`);
  }
}
const lifecycle = new Lifecycle();
const metrics = new Metrics(lifecycle);
lifecycle.adopt({ ...opened, region: regionView(region, opened.registry) });
const samples: number[] = [];
for (let scrape = -5; scrape < SCRAPES; scrape++) {
  const started = process.hrtime.bigint();
  const text = await metrics.scrape();
  if (scrape >= 0) samples.push(Number(process.hrtime.bigint() - started) / 1e6);
  if (scrape === -5) console.log(`${text.split('\n').length} lines, ${opened.store.list('ready').length} models`);
}
const { median } = row('GET /metrics, without the socket', samples, 'ms');
bar('median', median, '< 20 ms', median < 20);
await opened.close();
region.close();
rmSync(path, { force: true });
rmSync(folder, { recursive: true, force: true });
