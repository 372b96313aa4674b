/** A region with two models, made once; each test damages a copy of it. */
import { randomBytes } from 'node:crypto';
import { closeSync, copyFileSync, openSync, rmSync, statSync } from 'node:fs';
import { findHeader } from '../../daxfs/check/anchors.ts';
import { type CheckReport, checkRegion } from '../../daxfs/check/check.ts';
import { type RepairOptions, type RepairReport, repairRegion } from '../../daxfs/check/repair.ts';
import { readTables, wordOffset } from '../../daxfs/check/tables.ts';
import { contentRow, hostRow, intentRow, nameRow } from '../../daxfs/layout.ts';
import type { Region } from '../../daxfs/region.ts';
import type { RegionHeader } from '../../daxfs/region-format.ts';
import { type Mapping, native } from '../../native/index.ts';
import { manifestReader } from '../../server/cli/region-check.ts';
import type { OpenedStore } from '../../server/store/open-store.ts';
import { TestStore } from '../support/store.ts';

export const stopService = ({ opened, region }: TestStore): Promise<void> => stopOpened(opened, region);

/** Stops a service in this process, as its end would: nothing of it keeps the region open. */
export async function stopOpened(opened: OpenedStore, region: Region): Promise<void> {
  await opened.close();
  region.close();
  // Drops what the registry object would keep mapped until it is collected.
  try {
    opened.registry.stillAttached();
  } catch {}
}

/** Makes the region with models `a` and `bb` of 4 MiB each and a third name; deletes nothing. @returns its path */
export async function makeOriginal(mib = 32): Promise<{ path: string; remove: () => void }> {
  const test = await TestStore.open({ mib });
  for (const name of ['a', 'bb']) {
    await test.store.load({ source: test.model(name, 4, name.length), name });
    await test.store.settled(name);
  }
  const path = `/dev/shm/daxserve-check-${process.pid}-${randomBytes(6).toString('hex')}`;
  await stopService(test);
  copyFileSync(test.path, path);
  rmSync(test.path);
  rmSync(test.dir, { recursive: true });
  return { path, remove: () => rmSync(path, { force: true }) };
}

/** A copy of a region that nobody has open, and where its structures lie. */
export class RegionCopy {
  readonly path = `/dev/shm/daxserve-check-${process.pid}-${randomBytes(6).toString('hex')}`;
  readonly header: RegionHeader;
  readonly mapping: Mapping;
  readonly #fd: number;

  constructor(original: string) {
    copyFileSync(original, this.path);
    this.#fd = openSync(this.path, 'r+');
    this.mapping = new native.Mapping(this.#fd, 0, statSync(this.path).size, { write: true });
    this.header = findHeader(this.mapping)!;
  }

  /** Byte offset of a row, a bucket or a word. */
  at(what: 'host' | 'content' | 'name' | 'intent' | 'chunk', index: number): number {
    const { registryOffset, hostsOffset, contentsOffset, namesOffset, intentsOffset } = this.header.geometry;
    if (what === 'chunk') return wordOffset(this.header, index);
    const [offset, size] = {
      host: [hostsOffset, hostRow.size] as const,
      content: [contentsOffset, contentRow.size] as const,
      name: [namesOffset, nameRow.size] as const,
      intent: [intentsOffset, intentRow.size] as const,
    }[what];
    return registryOffset + offset + index * size;
  }

  /** Rows of every kind that are not zero, and the words of chunks in use. */
  usedRows(): { offset: number; size: number }[] {
    const tables = readTables(this.mapping, this.header, { locked: () => false, ownBootId: '' });
    const rows = [...tables.hosts, ...tables.contents.values(), ...tables.names, ...tables.intents];
    const chunks = [...tables.contents.values()].flatMap(({ content }) =>
      content.images.map(({ firstChunk }) => firstChunk),
    );
    return [
      ...rows.map(({ offset, bytes }) => ({ offset, size: bytes.length })),
      ...chunks.map((chunk) => ({ offset: this.at('chunk', chunk), size: 16 })),
    ];
  }

  /** The i-th content row that was never used; rows in use lie where their sources hash to. */
  freeContent(i: number): number {
    const { contents } = readTables(this.mapping, this.header, { locked: () => false, ownBootId: '' });
    return Array.from({ length: this.header.geometry.contents }, (_, index) => index).filter(
      (index) => !contents.has(index),
    )[i]!;
  }

  flip(offset: number, mask = 0x01): void {
    const byte = this.mapping.read(offset, 1);
    byte[0] = (byte[0] ?? 0) ^ mask;
    this.mapping.write(offset, byte);
  }

  check(options = {}): Promise<CheckReport> {
    return checkRegion({ path: this.path }, { manifest: manifestReader, ...options });
  }

  repair(options: RepairOptions = {}): Promise<RepairReport> {
    return repairRegion({ path: this.path }, { manifest: manifestReader, ...options });
  }

  dispose(): void {
    this.mapping.close();
    closeSync(this.#fd);
    rmSync(this.path, { force: true });
  }
}
