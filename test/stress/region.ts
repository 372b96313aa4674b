/** A fresh region for the stress test, with one real model in it of which the workers load copies. */
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lockDomain, Region } from '../../daxfs/index.ts';
import { openStore } from '../../server/store/open-store.ts';
import { matrices, writeSafetensors } from '../support/models.ts';

const MiB = 2 ** 20;
/** Room for the journal of native/stress/journal.h and its page cache; what is not touched costs nothing. */
const journalBytes = 32 * MiB;
const chunksForContents = 40;

export interface StressRegion {
  path: string;
  journal: string;
  /** Row of the model that is copied. */
  content: number;
  /** What every worker is told about the region, in order: journal, region, offsets of its tables, boot id. */
  arguments: string[];
  remove(): void;
}

async function loadTemplate(region: Region): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'daxserve-stress-'));
  const quiet = () => undefined;
  const log = { info: quiet, warn: quiet, error: quiet };
  const opened = await openStore({ region, sources: { roots: [directory] }, evict: false, log, hostId: 'template' });
  try {
    const source = join(directory, 'template.safetensors');
    writeSafetensors(source, matrices(2, 64 * 1024));
    await opened.store.load({ source, name: 'template' });
    await opened.store.settled('template');
    const found = opened.registry.findName('template:latest');
    if (found === null) throw new Error('the template model was not loaded');
    return found.index;
  } finally {
    await opened.close();
    rmSync(directory, { recursive: true });
  }
}

/** @param overlayBytes room for files */
export async function makeRegion(overlayBytes: number, kernelMountable: boolean): Promise<StressRegion> {
  const path = `/dev/shm/daxserve-stress-${process.pid}-${randomBytes(6).toString('hex')}`;
  const journal = `${path}.journal`;
  const remove = () => {
    for (const file of [path, journal]) rmSync(file, { force: true });
  };
  process.once('exit', remove);
  try {
    const size = overlayBytes * 1.04 + (chunksForContents * 2 + 8) * MiB;
    const region = await Region.create({ path, size: Math.ceil(size / MiB) * MiB, overlayBytes, kernelMountable });
    const { registryOffset, intentsOffset, intents, chunksOffset } = region.header.geometry;
    const domain = lockDomain(region).toString('hex');
    const content = await loadTemplate(region).finally(() => region.close());
    const fd = openSync(journal, 'wx');
    ftruncateSync(fd, journalBytes);
    closeSync(fd);
    const numbers = [registryOffset, registryOffset + intentsOffset, intents, chunksOffset].map(String);
    return { path, journal, content, arguments: [journal, path, ...numbers, domain], remove };
  } catch (error) {
    remove();
    throw error;
  }
}
