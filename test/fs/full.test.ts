/**
 * Goal: a full pool loses nothing, shows nothing that was not written, and is whole again when files go. Method: regions
 * with little room; one test per way in which it went wrong; then random calls beside a model, each failure looked at.
 */
import { describe, expect, it } from 'vitest';
import { checkRegion, type RegionFs } from '../../daxfs/index.ts';
import { type Random, randomOf } from '../support/random.ts';
import { seed } from '../support/seed.ts';
import { create } from './front.ts';

const NO_ROOM = expect.objectContaining({ code: 'ENOSPC' });
const filled = (length: number, fill = 7) => Buffer.alloc(length, fill);

/** Until nothing more goes in. @returns how many files went in whole */
function fill(fs: RegionFs, bytes: number, prefix = 'fill'): number {
  for (let i = 0; ; i += 1) {
    try {
      fs.writeFileSync(`${prefix}${i}`, filled(bytes));
    } catch (error) {
      expect(error).toEqual(NO_ROOM);
      return i;
    }
  }
}

it('a pool that one file has filled has room for names when that file is gone', async () => {
  const { fs } = await create(2);
  await expect(fs.writeFile('huge', filled(2 ** 22))).rejects.toEqual(NO_ROOM);
  expect(fs.statSync('huge').size).toBeGreaterThan(2 ** 20);
  await fs.unlink('huge');
  for (let i = 0; i < 300; i += 1) fs.writeFileSync(`small${i}`, `${i}`);
  for (let i = 0; i < 300; i += 1) expect(fs.readFileSync(`small${i}`, 'utf8')).toBe(`${i}`);
});

it('a file that is cut off inside a block without room for that block can be read, and cut off further', async () => {
  const { fs } = await create(2);
  fs.writeFileSync('cut', filled(60_000));
  fill(fs, 60_000, 'large');
  fill(fs, 1, 'small');
  await fs.truncate('cut', 56_000);
  expect(fs.readFileSync('cut').equals(filled(56_000))).toBe(true);
  await fs.truncate('cut', 10);
  expect(fs.readFileSync('cut').equals(filled(10))).toBe(true);
  fs.unlinkSync('large0');
  await fs.truncate('cut', 20);
  expect(fs.readFileSync('cut').equals(Buffer.concat([filled(10), Buffer.alloc(10)]))).toBe(true);
});

describe.each([false, true])('kernel-mountable: %s', (kernelMountable) => {
  it('an append that fails leaves nothing behind', async () => {
    const { fs } = await create(2, { kernelMountable });
    fs.writeFileSync('log', filled(5000));
    fill(fs, 60_000);
    await expect(fs.appendFile('log', filled(2 ** 20, 8))).rejects.toEqual(NO_ROOM);
    expect((await fs.readFile('log')).equals(filled(5000))).toBe(true);
    // In its last block, so no room is needed.
    await fs.truncate('log', 5010);
    expect((await fs.readFile('log')).subarray(5000)).toEqual(Buffer.alloc(10));
  });

  it('bytes of a write that fails do not show when the file grows', async () => {
    const { fs } = await create(2, { kernelMountable });
    fs.writeFileSync('f', filled(10));
    fill(fs, 60_000);
    await expect(fs.writeFile('f', filled(2 ** 20, 8))).rejects.toEqual(NO_ROOM);
    const { size } = fs.statSync('f');
    expect((await fs.readFile('f')).equals(filled(size, 8))).toBe(true);
    // In its last block, so no room is needed.
    await fs.truncate('f', size + 3);
    expect((await fs.readFile('f')).subarray(size)).toEqual(Buffer.alloc(3));
  });

  it('random calls at a full pool do what they say or leave things as they are', async () => {
    const opened = await create(2, { kernelMountable });
    const { fs, region } = opened;
    const { path } = region!;
    const model = new Map<string, Buffer>();
    const below = randomOf(seed);
    const replay = `DAXSERVE_SEED=${seed} replays this`;
    for (let i = 0; i < 4000; i += 1) await step(fs, model, below, `${replay}, call ${i}`);
    for (const [name, bytes] of model) expect(fs.readFileSync(name).equals(bytes), `${replay}: ${name}`).toBe(true);
    for (const name of model.keys()) fs.unlinkSync(name);
    if (!kernelMountable) expect(fill(fs, 60_000), replay).toBeGreaterThan(20);
    await opened.close();
    const { sound, leftovers } = await checkRegion({ path: path! });
    // A kernel-mountable front gives nothing back.
    expect({ sound, leftovers: kernelMountable ? [] : leftovers }, replay).toEqual({ sound: true, leftovers: [] });
  });
});

/** One random call on both; after a failure the region's file is looked at, and counts. */
async function step(fs: RegionFs, model: Map<string, Buffer>, below: Random, label: string): Promise<void> {
  const name = `n${below(300)}`;
  const had = model.get(name);
  const data = filled([1, 10, 4096, 5000, 60_000][below(5)]!, 1 + below(255));
  const at = below(20_000);
  const kind = below(6);
  if (!had && kind > 1) return;
  try {
    model.set(name, await act(fs, name, kind, had ?? Buffer.alloc(0), data, at));
    if (kind === 5) model.delete(name);
  } catch (error) {
    expect(error, label).toEqual(NO_ROOM);
    const now = fs.existsSync(name) ? fs.readFileSync(name) : undefined;
    // What a write or append says nothing about: a part of it may be in.
    const kept = Math.min(had?.length ?? 0, kind === 1 ? Infinity : kind === 2 ? at : 0);
    if (kind > 2) expect(now?.equals(had!), label).toBe(true);
    else if (had) expect(now?.subarray(0, kept).equals(had.subarray(0, kept)), label).toBe(true);
    if (now) model.set(name, now);
    else model.delete(name);
  }
}

/** @returns what the file is then */
async function act(fs: RegionFs, name: string, kind: number, had: Buffer, data: Buffer, at: number): Promise<Buffer> {
  if (kind === 0) {
    fs.writeFileSync(name, data);
    return data;
  }
  if (kind === 1) {
    fs.appendFileSync(name, data);
    return Buffer.concat([had, data]);
  }
  const grown = Buffer.alloc(Math.max(had.length, at + data.length));
  had.copy(grown);
  if (kind === 2) {
    await using file = await fs.open(name, 'r+');
    await file.write(data, 0, data.length, at);
    data.copy(grown, at);
    return grown;
  }
  if (kind === 3) {
    await fs.truncate(name, at);
    return Buffer.concat([had, Buffer.alloc(at)]).subarray(0, at);
  }
  if (kind === 4) fs.chmodSync(name, 0o600);
  else fs.unlinkSync(name);
  return had;
}
