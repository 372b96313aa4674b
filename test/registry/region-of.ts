/** A small region in /dev/shm with few rows, and hosts attached to it. */
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { hostIdentity, Region, Registry, takeHostRow } from '../../daxfs/index.ts';
import type { ContentFields } from '../../daxfs/registry.ts';
import { scratchDirectory } from '../support/scratch.ts';

const MiB = 2 ** 20;
const open: Region[] = [];

afterEach(() => {
  for (const region of open.splice(0)) region.close();
});

/** A fresh region of 32 MiB with 16 content rows and 64 names. @returns its path */
export async function createRegion(): Promise<string> {
  const path = join(scratchDirectory('/dev/shm'), 'region');
  const region = await Region.create({ path, size: 32 * MiB, capacities: { contents: 16, names: 64, intents: 16 } });
  region.close();
  return path;
}

export interface Attached {
  region: Region;
  registry: Registry;
  /** What the attach cleaned up. */
  recovered: { contents: number; chunks: number; names: number };
  /** Gives the row's lock back, as the death of the process would. */
  unlock(): void;
}

/** Opens the region once more and attaches as `name`. */
export async function attachTo(path: string, name: string): Promise<Attached> {
  const region = await Region.open({ path });
  open.push(region);
  const registry = new Registry(region);
  const identity = hostIdentity(name);
  let recovered = { contents: 0, chunks: 0, names: 0, pins: 0 };
  const lock = await takeHostRow(region, identity, (row) => {
    recovered = registry.attach(row, identity).recovered;
  });
  return { region, registry, recovered, unlock: () => lock.release() };
}

/** What a published content of one image says. */
export function fieldsOf(firstChunk: number, chunkCount: number, change: Partial<ContentFields> = {}): ContentFields {
  return {
    digest: 'd1'.repeat(32),
    bytes: 1000,
    createdAtMs: 1_700_000_000_000,
    readyAtMs: 1_700_000_002_500,
    fileCount: 2,
    tensorCount: 3,
    images: [{ firstChunk, chunkCount, bytes: 4096 }],
    keep: false,
    placement: 'resident',
    format: 1,
    revision: 'main',
    ...change,
  };
}

export const keyOf = (n: number): Buffer => {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(n);
  return key;
};

/** Claims, allocates and publishes in one go. */
export function publishOne({ registry }: Attached, n: number, chunkCount = 1, change: Partial<ContentFields> = {}) {
  const claim = registry.claim(keyOf(n));
  if (claim.outcome !== 'claimed') throw new Error(`not claimed: ${claim.outcome}`);
  const first = registry.allocateRun(chunkCount, claim);
  if (first < 0 || !registry.publish(claim, fieldsOf(first, chunkCount, change))) throw new Error('not published');
  return { index: claim.index, generation: claim.generation };
}
