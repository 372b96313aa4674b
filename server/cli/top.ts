/** top: a view of models, leases and the region that redraws itself; one plain report where there is no terminal. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ApiClient, ListedHandle } from '../client.ts';
import type { RegionInfo } from '../schemas/region.ts';
import type { Model } from '../services.ts';
import { type ApiOptions, clientOf, withApi } from './api-options.ts';
import { modelTable } from './models.ts';
import { bytes, print, screenOf } from './output.ts';

interface View {
  region: RegionInfo;
  models: Model[];
  handles: ListedHandle[];
}

async function look(client: ApiClient): Promise<View> {
  const [region, models, handles] = await Promise.all([client.region(), client.models(), client.handles()]);
  return { region, models, handles };
}

function header({ region, models, handles }: View): string {
  const loading = models.filter(({ state }) => state === 'loading').length;
  const workers = new Set(handles.flatMap(({ worker }) => (worker ? [`${worker.uid}:${worker.pid}`] : []))).size;
  const chunks = region.areas.find(({ area }) => area === 'chunks');
  const share = chunks && chunks.size > 0 ? Math.round(((chunks.used ?? 0) / chunks.size) * 100) : 0;
  return [
    `region   ${region.path ?? region.backing}  ${bytes(region.size)} on ${region.backing}, pages of ${bytes(region.pageBytes)}`,
    `memory   ${share} % used, ${bytes(region.freeBytes)} free, largest run ${bytes(region.largestFreeBytes)}`,
    `models   ${models.length}, ${loading} loading      leases ${handles.length}, ${workers} workers`,
  ].join('\n');
}

function report(view: View): string {
  const byUse = [...view.models].sort((a, b) => b.leases - a.leases || b.bytes - a.bytes);
  return `${header(view)}\n\n${modelTable(byUse)}`;
}

/** Redraws in place; what does not fit on the screen is left out. */
async function redraw(client: ApiClient, intervalMs: number): Promise<void> {
  const { stdout } = process;
  for (;;) {
    const { rows, columns } = screenOf(stdout);
    const lines = report(await look(client))
      .split('\n')
      .slice(0, rows - 1);
    stdout.write(`\x1b[H\x1b[2J${lines.map((line) => line.slice(0, columns)).join('\n')}\n`);
    await sleep(intervalMs);
  }
}

async function top(options: ApiOptions & { interval: string; once?: boolean }): Promise<void> {
  const client = clientOf(options);
  if (process.stdout.isTTY && !options.json && !options.once) {
    await redraw(client, Math.max(0.2, Number(options.interval) || 1) * 1000);
    return;
  }
  const view = await look(client);
  print(options.json ?? false, view, () => report(view));
}

export function addTop(program: Command): void {
  withApi(program.command('top').description('live view of models, leases and region'))
    .option('--interval <seconds>', 'time between two looks', '1')
    .option('--once', 'print one report and end')
    .action(top);
}
