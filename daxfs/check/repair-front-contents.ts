/** Repair of a region's front: first what dead hosts had begun is finished by the code of every service, then the rest. */
import { native, type Overlay } from '../../native/index.ts';
import { DaxfsError } from '../errors.ts';
import { HOST_STATE } from '../layout.ts';
import { tablesOf } from '../open-region.ts';
import { frontSource, frontWork, kindOf } from './check-front.ts';
import { findingsOf, foreignHosts, type RepairContext } from './repair-context.ts';
import { mendFront } from './repair-front.ts';

function withOverlay<T>({ region, self }: RepairContext, work: (overlay: Overlay) => T): T | undefined {
  let overlay: Overlay;
  try {
    overlay = new native.Overlay(region.mapping, tablesOf(region), self);
  } catch (error) {
    if (error instanceof DaxfsError && error.code === 'DAXFS_CLOSED') throw error;
    // Superblock and header do not fit each other: that is told.
    return undefined;
  }
  try {
    return work(overlay);
  } finally {
    overlay.close();
  }
}

/** Finishes the operations of hosts that are proved dead. */
function recoverOperations(context: RepairContext): void {
  const begun = findingsOf(context, 'INTENT_DEAD').map(({ where }) => where.offset);
  if (begun.length === 0) return;
  const { mapping } = context.region;
  const before = begun.map((at) => mapping.load64(at));
  withOverlay(context, (overlay) => overlay.recover());
  const finished = begun.filter((at, i) => mapping.load64(at) !== before[i]).length;
  if (finished > 0) context.step(`${finished} operations of dead hosts finished`);
}

export function repairFrontContents(context: RepairContext): void {
  const { region, tables, self, step } = context;
  recoverOperations(context);
  const foreign = new Set(foreignHosts(context).map(({ index }) => index));
  const isAtWork = tables.hosts.some(({ index, bits }) => foreign.has(index) && bits.state === HOST_STATE.LIVE);
  const work = frontWork(tables, self.index);
  if (isAtWork || !work.isQuiet) {
    context.keep('the front stays as it is: a host of another kernel is silent and may come back to it');
    return;
  }
  const settle = (ino: number) => void withOverlay(context, (overlay) => overlay.readSync(ino, 0, Buffer.alloc(1)));
  const { mapping } = region;
  const source = frontSource(mapping, tables.header);
  const mayLive = (host: number) => foreign.has(host);
  mendFront({ mapping, source, kind: kindOf(tables.header), work, mayLive, settle, step });
}
