/** Goal: two services on one region, doing anything at any time, never change bytes that are mapped and leak nothing. Method: random steps from a seed; every lease's bytes are compared with its source until its descriptor is closed. */
import { closeSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DaxfsError } from '../../daxfs/index.ts';
import { native } from '../../native/index.ts';
import type { GrantedHandle } from '../../server/services.ts';
import type { OpenedStore } from '../../server/store/open-store.ts';
import { seed } from '../support/seed.ts';
import { TestStore } from '../support/store.ts';
import { until } from '../support/until.ts';

const steps = Number(process.env.DAXSERVE_STEPS ?? 250);
const names = ['p', 'q', 'r'];
/** What a step may be refused with; anything else is a bug. */
const refusals = /^(MODEL_|HANDLE_|INGEST_NO_ROOM|INGEST_CLAIM_LOST)/;

/** Mulberry32: numbers in [0, 1), the same for the same seed. */
function randomFrom(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Held {
  granted: GrantedHandle;
  by: OpenedStore;
  mapping: InstanceType<typeof native.Mapping>;
}

let t: TestStore;
let other: OpenedStore;
beforeEach(async () => {
  t = await TestStore.open({ mib: 48, evict: true });
  other = await t.second('second');
});
afterEach(async () => {
  await other.close();
  await t.dispose();
});

it(`keeps every mapped byte through ${steps} random steps (seed ${seed}, replay with DAXSERVE_SEED)`, async () => {
  const random = randomFrom(seed);
  const bugs: unknown[] = [];
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  const free = t.freeChunks();
  const sources = Array.from({ length: 4 }, (_, i) => t.model(`m${i}`, 6, i + 1));
  const bytesOf = new Map(sources.map((path) => [`${path.split('/').at(-1)}`, readFileSync(path)]));
  const held: Held[] = [];

  const check = ({ granted, mapping }: Held) => {
    for (const file of granted.handle.buffers[0]!.files) {
      const bytes = bytesOf.get(file.path);
      const [extent] = file.extents;
      if (!bytes || !extent) continue;
      expect(mapping.read(extent.bufferOffset, extent.length).equals(bytes), `seed ${seed}: ${file.path}`).toBe(true);
    }
  };
  const letGo = async (lease: Held) => {
    check(lease);
    lease.mapping.close();
    await lease.by.leases.release(lease.granted.handle.id);
  };
  const attach = async (by: OpenedStore) => {
    const granted = await by.leases.attach(pick(names), {}, { pid: 1, uid: 0 });
    const mapping = new native.Mapping(granted.fds[0]!, 0, t.region.sizeBytes, {});
    for (const fd of granted.fds) closeSync(fd);
    held.push({ granted, by, mapping });
  };
  const step = async (by: OpenedStore): Promise<unknown> => {
    const what = random();
    if (what < 0.3) return by.store.load({ source: pick(sources), name: pick(names) });
    if (what < 0.4) return by.store.remove(pick(names), { drain: random() < 0.5 });
    if (what < 0.5) return by.store.retarget(pick(names), pick(by.store.list('ready'))?.digest ?? '0'.repeat(64));
    if (what < 0.75 && held.length < 6) return attach(by);
    if (what < 0.85) return by.leases.reserve(pick(names), { ttlSeconds: 0.05 });
    const [lease] = held.splice(Math.floor(random() * held.length), 1);
    return lease && letGo(lease);
  };

  const all: Promise<unknown>[] = [];
  for (let i = 0; i < steps; i++) {
    const done = step(pick([t.opened, other])).catch((error: unknown) => {
      if (!(error instanceof DaxfsError && refusals.test(error.code))) bugs.push(error);
    });
    all.push(done);
    if (random() < 0.7) await done;
    if (random() < 0.3) await sleep(random() * 8);
    for (const lease of held) check(lease);
    expect(bugs, `seed ${seed}`).toEqual([]);
  }
  await Promise.all(all);
  for (const lease of held.splice(0)) await letGo(lease);
  for (const by of [t.opened, other]) {
    for (const { name } of by.store.list()) await by.store.remove(name, { drain: true }).catch(() => undefined);
  }
  // Loads that were under way may still take their names.
  const isEmpty = async () => {
    for (const name of names) await t.store.remove(name, { drain: true }).catch(() => undefined);
    // A load that has no chunks yet has a row.
    return t.freeChunks() === free && t.opened.registry.contents().length === 0;
  };
  await until(isEmpty, `all chunks and rows were free again, seed ${seed}`);
  expect(bugs, `seed ${seed}`).toEqual([]);
});
