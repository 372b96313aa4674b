/**
 * Goal: what the lock-free overlay writes, the tools read the same, and no rule of the check is broken. Method: seeded
 * operations through the addon on an empty image, on the published example, and on the front of a region; then every
 * name, attribute and byte is compared, and the checks run. DAXSERVE_SEED replays.
 */
import { closeSync, constants, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { mappingSource } from '../../daxfs/byte-source.ts';
import { FrontReader } from '../../daxfs/front-read.ts';
import { validateFront } from '../../daxfs/front-validate.ts';
import { overlayReport } from '../../daxfs/inspect/report.ts';
import { treeItems } from '../../daxfs/inspect/tree.ts';
import { Region } from '../../daxfs/region.ts';
import { type Mapping, native, type Overlay } from '../../native/index.ts';
import { buildExample } from '../support/overlay-example.ts';
import { mkdaxfs } from '../support/run-tool.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { seed } from '../support/seed.ts';

const OPERATIONS = 600;
const { O_CREAT, O_EXCL } = constants;

/** A small generator (mulberry32), so that a seed gives the same operations everywhere. */
function random(from: number): (below: number) => number {
  let state = from >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

async function operate(overlay: Overlay, next: (below: number) => number): Promise<void> {
  const directories = ['', '/d0', '/d1', '/d0/deep', '/sub'];
  const name = () => `${directories[next(directories.length)]}/n${next(12)}`;
  const inode = (path: string) => {
    const found = overlay.stat(path, false);
    return typeof found === 'number' || (found.mode & constants.S_IFMT) !== constants.S_IFREG ? undefined : found.ino;
  };
  const write = (path: string, at: number, length: number) => {
    const ino = inode(path);
    if (ino !== undefined) overlay.writeSync(ino, at, Buffer.alloc(length, 97 + next(26)));
  };
  for (const path of directories.slice(1)) overlay.mkdir(path, 0o755, next(3), next(3));
  for (let i = 0; i < OPERATIONS; i++) {
    const path = next(8) === 0 ? '/hello.txt' : name();
    const choice = next(10);
    if (choice <= 2) overlay.open(path, O_CREAT | (next(2) * O_EXCL), 0o600 + next(64), next(9), next(9));
    else if (choice <= 4) write(path, next(3) * 4096 + next(5000), next(9000));
    else if (choice === 5) overlay.unlink(path);
    else if (choice === 6) overlay.rename(path, name());
    else if (choice === 7) overlay.symlink(path, 'a target', 0, 0);
    else if (choice === 8) {
      const ino = inode(path);
      if (ino !== undefined) await overlay.truncate(ino, next(20000));
    } else if (next(2) === 0) overlay.mkdir(path, 0o700, 0, 0);
    else overlay.rmdir(path);
  }
}

interface Seen {
  mode: number;
  owner: string;
  content: string;
}

/** The tree as the addon shows it. */
function seenByAddon(overlay: Overlay): Record<string, Seen> {
  const seen: Record<string, Seen> = {};
  const visit = (path: string) => {
    const stat = overlay.stat(path === '' ? '/' : path, false);
    if (typeof stat === 'number') throw new Error(`${path}: ${stat}`);
    const type = stat.mode & constants.S_IFMT;
    let content = '';
    if (type === constants.S_IFLNK) content = (overlay.readlink(path) as Buffer).toString();
    if (type === constants.S_IFREG) {
      const bytes = Buffer.alloc(stat.size);
      expect(overlay.readSync(stat.ino, 0, bytes)).toBe(stat.size);
      content = bytes.toString('latin1');
    }
    seen[path] = { mode: stat.mode, owner: `${stat.uid}:${stat.gid}`, content };
    if (type !== constants.S_IFDIR) return;
    const list = overlay.readdir(stat.ino);
    if (typeof list === 'number') throw new Error(`${path}: ${list}`);
    for (let i = 0, at = 0; i < list.entries.length; i += 3) {
      const length = list.entries[i]!;
      visit(`${path}/${list.names.subarray(at, at + length)}`);
      at += length;
    }
  };
  visit('');
  return seen;
}

/** The same by the bytes alone. */
function seenByTools(mapping: Mapping): Record<string, Seen> {
  const source = mappingSource(mapping, 0, mapping.size);
  const front = new FrontReader(source);
  const seen: Record<string, Seen> = {};
  for (const { path, ino, uid, gid, damage, target, type } of treeItems(source)) {
    expect(damage).toBeUndefined();
    const node = front.inode(ino)!;
    const file = type === 'file' ? Buffer.concat([...front.content(node, path)]).toString('latin1') : '';
    seen[path === '' ? '' : `/${path}`] = { mode: node.mode, owner: `${uid}:${gid}`, content: target ?? file };
  }
  return seen;
}

async function compare(mapping: Mapping): Promise<void> {
  const overlay = new native.Overlay(mapping, null, null);
  const next = random(seed);
  try {
    for (let round = 0; round < 3; round++) {
      await operate(overlay, next);
      expect(seenByTools(mapping), `DAXSERVE_SEED=${seed}`).toEqual(seenByAddon(overlay));
      expect(Object.keys(seenByAddon(overlay)).length).toBeGreaterThan(15);
      const source = mappingSource(mapping, 0, mapping.size);
      expect(validateFront(source).findings, `DAXSERVE_SEED=${seed}`).toEqual([]);
      expect(overlayReport(source)!.entries.damaged).toBe(0);
    }
  } finally {
    overlay.close();
  }
}

async function compareFile(path: string): Promise<void> {
  const fd = openSync(path, 'r+');
  const mapping = new native.Mapping(fd, 0, overlaySize(fd), { write: true });
  try {
    await compare(mapping);
  } finally {
    mapping.close();
    closeSync(fd);
  }
}

function overlaySize(fd: number): number {
  const head = new native.Mapping(fd, 0, 4096, {});
  const size = Number(head.load64(16));
  head.close();
  return size;
}

it('an empty file system of mkdaxfs', async () => {
  const path = join(scratchDirectory('/dev/shm'), 'empty');
  expect((await mkdaxfs('-E', '-o', path, '-O', '32M', '-B', '16384')).status).toBe(0);
  await compareFile(path);
});

it('the published example, over its base image', async () => {
  const path = join(scratchDirectory('/dev/shm'), 'example');
  const { image, overlayAt } = buildExample();
  // Room for more: the pool gets 32 MiB.
  const larger = Buffer.concat([image, Buffer.alloc(31 * 2 ** 20)]);
  larger.writeBigUInt64LE(BigInt(larger.length), 16);
  larger.writeBigUInt64LE(larger.readBigUInt64LE(72) + BigInt(31 * 2 ** 20), 72);
  larger.writeBigUInt64LE(BigInt(32 * 2 ** 20), overlayAt + 24);
  writeFileSync(path, larger);
  await compareFile(path);
});

it.each([true, false])('the front of a region, kernel-mountable %s', async (kernelMountable) => {
  const path = join(scratchDirectory('/dev/shm'), 'region');
  const region = await Region.create({ path, size: 64 * 2 ** 20, kernelMountable, overlayBytes: 32 * 2 ** 20 });
  try {
    await compare(region.mapping);
  } finally {
    await region.close();
  }
});
