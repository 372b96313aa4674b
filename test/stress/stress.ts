/**
 * Many processes at work on one region while they are killed at random moments. What each had acknowledged is in a journal
 * outside of the region; after the kills `check` must find a sound region, and everything acknowledged must be there.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type CheckReport, checkRegion } from '../../daxfs/check/check.ts';
import { repairRegion } from '../../daxfs/check/repair.ts';
import { manifestReader } from '../../server/cli/region-check.ts';
import { makeRegion, type StressRegion } from './region.ts';
import { runTask, StressFailure, Workers } from './workers.ts';

const MiB = 2 ** 20;
const owners = 8;

export interface StressOptions {
  seed: number;
  kernelMountable: boolean;
  /** Goes on until so many operations were done and so many processes killed, one of them at least in an operation. */
  operations: number;
  kills: number;
  /** Room for files; default 192 MiB, a kernel-mountable front, which frees nothing, 640 MiB. */
  overlayBytes?: number;
  /** Kills between two looks at everything; default 25. */
  killsPerLook?: number;
  onProgress?: (line: string) => void;
}

export interface StressSummary {
  operations: number;
  kills: number;
  looks: number;
  regions: number;
  /** Of the operations that a kill cut short: those found done, and those found not done. */
  cutDone: number;
  cutUndone: number;
  /** Operations of dead hosts that a survivor finished at a look. */
  busy: number;
  /** Findings right after a kill of everybody, which the next service undoes: code to count. */
  leftovers: Record<string, number>;
  counts: Record<string, number>;
}

/** mulberry32 */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const addTo = (sums: Record<string, number>, key: string, by: number) => {
  sums[key] = (sums[key] ?? 0) + by;
};

/** `COUNTS a=1 b=2` */
function countsOf(output: string): Record<string, number> {
  const line = output.split('\n').find((text) => text.startsWith('COUNTS ')) ?? '';
  return Object.fromEntries([...line.matchAll(/([\w-]+)=(\d+)/g)].map(([, key, value]) => [key!, Number(value)]));
}

/** @throws StressFailure when a rule is broken */
function refuse(report: CheckReport, when: string): void {
  if (report.sound) return;
  const shown = report.findings
    .slice(0, 10)
    .map(({ code, message, where }) => `  ${code} at ${where.offset}: ${message}`);
  throw new StressFailure(`${when}: ${report.findings.length} findings\n${shown.join('\n')}`);
}

class Stress {
  readonly #options: StressOptions;
  readonly #random: () => number;
  readonly #sums: StressSummary = {
    operations: 0,
    kills: 0,
    looks: 0,
    regions: 0,
    cutDone: 0,
    cutUndone: 0,
    busy: 0,
    leftovers: {},
    counts: {},
  };
  #inRegion: Record<string, number> = {};

  constructor(options: StressOptions) {
    this.#options = options;
    this.#random = randomOf(options.seed);
  }

  async run(): Promise<StressSummary> {
    const { kernelMountable, overlayBytes = (kernelMountable ? 640 : 192) * MiB } = this.#options;
    while (!this.#isDone()) {
      const region = await makeRegion(overlayBytes, kernelMountable);
      try {
        await this.#runOn(region);
      } finally {
        region.remove();
      }
    }
    return this.#sums;
  }

  #isDone(): boolean {
    const { operations, kills } = this.#options;
    const done = (key: 'operations' | 'cutDone' | 'cutUndone') => this.#sums[key] + (this.#inRegion[key] ?? 0);
    return done('operations') >= operations && this.#sums.kills >= kills && done('cutDone') + done('cutUndone') > 0;
  }

  async #runOn(region: StressRegion): Promise<void> {
    this.#sums.regions += 1;
    const seed = this.#options.seed * 1000 + this.#sums.regions;
    await runTask(region, 'prepare', [String(seed), String(region.content)]);
    const workers = new Workers(region, owners);
    try {
      do {
        await this.#killSome(workers);
        await this.#look(region);
      } while (!this.#isDone() && !workers.isFull());
      await this.#lookAtRest(region, workers);
    } finally {
      await workers.killAll();
    }
    for (const [key, value] of Object.entries(this.#inRegion)) addTo(this.#sums.counts, key, value);
    this.#sums.operations += this.#inRegion.operations ?? 0;
    for (const key of ['cutDone', 'cutUndone', 'busy'] as const) this.#sums[key] += this.#inRegion[key] ?? 0;
    this.#inRegion = {};
  }

  /** Ends with everybody dead at one moment. */
  async #killSome(workers: Workers): Promise<void> {
    workers.startAll();
    for (let kills = 0; kills < (this.#options.killsPerLook ?? 25) && !workers.isFull(); kills += 1) {
      await sleep(5 + this.#random() ** 2 * 150);
      workers.check();
      const owner = Math.floor(this.#random() * owners);
      await workers.kill(owner);
      this.#sums.kills += 1;
      workers.start(owner);
    }
    await sleep(20 + this.#random() * 50);
    await workers.killAll();
    this.#sums.kills += owners;
    workers.check();
  }

  /** Everybody is dead, and nothing was recovered yet; then everything is. */
  async #look(region: StressRegion): Promise<void> {
    const how = { manifest: manifestReader };
    const crashed = await checkRegion({ path: region.path }, how);
    refuse(crashed, 'after the kills');
    for (const { code } of crashed.leftovers) addTo(this.#sums.leftovers, code, 1);
    this.#inRegion = countsOf(await runTask(region, 'check'));
    refuse(await checkRegion({ path: region.path }, how), 'after recovery');
    this.#sums.looks += 1;
    this.#options.onProgress?.(this.#progress());
  }

  /** Without a kill at the end; then `--repair` finds nothing that it would have to change. */
  async #lookAtRest(region: StressRegion, workers: Workers): Promise<void> {
    workers.startAll();
    await sleep(100);
    await workers.stop();
    workers.check();
    this.#inRegion = countsOf(await runTask(region, 'check'));
    const { after, kept } = await repairRegion({ path: region.path }, { manifest: manifestReader });
    refuse(after, 'after repair');
    // What cannot be repaired is told, and documented: space that a kernel-mountable front never gives back.
    const left = after.leftovers
      .filter(({ repairable }) => repairable)
      .map(({ code, message }) => `${code}: ${message}`);
    if (left.length > 0 || kept.length > 0)
      throw new StressFailure(`left after repair: ${[...left, ...kept].join('; ')}`);
    await runTask(region, 'check');
  }

  #progress(): string {
    const { kills, looks, regions, operations } = this.#sums;
    const { operations: here = 0, cutDone, cutUndone, busy } = this.#inRegion;
    return `${operations + here} operations, ${kills} kills, ${looks} looks, region ${regions}: cut short ${cutDone} done, ${cutUndone} not; busy ${busy}`;
  }
}

/** @throws StressFailure */
export function runStress(options: StressOptions): Promise<StressSummary> {
  return new Stress(options).run();
}
