/** Repairs of content rows and chunk words: what can't be trusted is fenced off, and freed only when nobody maps it. */
import { decodeWord, encodeWord } from '../codec.ts';
import { CHUNK_STATE, CONTENT_STATE, chunkWord, contentWord, HOST_STATE, NO_HOST } from '../layout.ts';
import { coverOf, usedWord } from './check-chunks.ts';
import { checkContentImages, chunkArea, type ImageCheckOptions } from './check-images.ts';
import {
  changeWord,
  findingsOf,
  foreignHosts,
  isChunkLocked,
  isContentHeld,
  type RepairContext,
} from './repair-context.ts';
import { type ContentEntry, isFollowable, isFree, wordOffset } from './tables.ts';

const { READY, DRAINING, QUARANTINED } = CONTENT_STATE;

const PINNABLE: ReadonlySet<number> = new Set([READY, DRAINING, QUARANTINED]);

function generationOf({ bits }: ContentEntry): number {
  return bits.generation ?? 0;
}

/** Any state -> QUARANTINED; pins stay. */
export function quarantine(context: RepairContext, entry: ContentEntry, why: string): void {
  const { mask = 0 } = entry.bits;
  const fields = { state: QUARANTINED, host: NO_HOST, mask, generation: generationOf(entry) };
  const word = encodeWord(contentWord, fields);
  if (changeWord(context.region.mapping, entry.offset, entry.word, word))
    context.step(`${why}: content ${entry.index} quarantined`);
}

/** Frees a quarantined or draining content that nobody maps or pins. */
function release(context: RepairContext, entry: ContentEntry): void {
  if (isContentHeld(context, entry)) {
    context.keep(`content ${entry.index} stays: a process or a host of another kernel still maps it`);
    return;
  }
  const freed = context.registry.free({ index: entry.index, generation: generationOf(entry) });
  if (freed) context.step(`content ${entry.index} freed`);
}

/** A published row that names a host is whole but for its word; a claim by nobody has nothing to keep. */
function repairClaims(context: RepairContext): void {
  for (const { where, code } of findingsOf(context, 'CONTENT_CLAIM', 'CONTENT_STATE')) {
    const entry = context.tables.contents.get(where.index);
    if (!entry) continue;
    const { state = 0, mask = 0, generation = 0 } = entry.bits;
    const published = (state === READY || state === DRAINING) && entry.broken === undefined;
    if (!published) {
      quarantine(context, { ...entry, bits: { ...entry.bits, mask: 0 } }, code);
      release(context, entry);
      continue;
    }
    const word = encodeWord(contentWord, { state, host: NO_HOST, mask, generation });
    if (changeWord(context.region.mapping, entry.offset, entry.word, word))
      context.step(`${code}: the word of content ${entry.index} mended`);
  }
}

/** Pins of hosts that are gone, once no lock is left on the bytes. */
function repairPins(context: RepairContext): void {
  const { registry, tables } = context;
  const rows = new Map(tables.hosts.map((row) => [row.index, row]));
  const foreign = new Set(foreignHosts(context).map(({ index }) => index));
  for (const entry of tables.contents.values()) {
    const published = PINNABLE.has(entry.bits.state ?? 0) && entry.bits.mask !== 0;
    if (!published || isContentHeld(context, entry)) continue;
    for (let host = 0; host < NO_HOST; host++) {
      if (((entry.bits.mask ?? 0) & (1 << host)) === 0 || foreign.has(host)) continue;
      const { state = 0, generation = 0 } = rows.get(host)?.bits ?? {};
      if (state === HOST_STATE.LIVE && tables.liveness(host, generation) === 'live') continue;
      registry.clearHostBit(entry.index, host);
      context.step(`pin of host row ${host} on content ${entry.index} cleared`);
    }
  }
}

/** Of contents that claim the same chunks, those to which the chunk words do not belong are fenced off. */
function repairOverlaps(context: RepairContext): void {
  const { tables } = context;
  for (const { where } of findingsOf(context, 'CONTENT_OVERLAP')) {
    const cover = coverOf(tables);
    const together = [...cover.values()].filter((list) => list.length > 1).flat();
    const losers = [...new Set(together)].filter((entry) => !ownsAll(context, entry));
    for (const entry of losers) quarantine(context, entry, `CONTENT_OVERLAP at content ${where.index}`);
  }
}

function ownsAll({ tables }: RepairContext, entry: ContentEntry): boolean {
  const expected = usedWord(entry.index, generationOf(entry));
  return entry.content.images.every(({ firstChunk, chunkCount }) =>
    Array.from({ length: chunkCount }, (_, i) => tables.words.readBigUInt64LE((firstChunk + i) * 8)).every(
      (word) => word === expected,
    ),
  );
}

/** The one with a name stays, else the first. */
function repairDuplicates(context: RepairContext): void {
  const { tables } = context;
  const named = new Set(tables.names.map(({ bits }) => `${bits.content}@${bits.generation}`));
  for (const { where } of findingsOf(context, 'CONTENT_DUPLICATE')) {
    const key = tables.contents.get(where.index)?.content.sourceKey;
    const same = [...tables.contents.values()].filter(
      (entry) => entry.content.sourceKey === key && entry.bits.state === READY,
    );
    const keep = same.find((entry) => named.has(`${entry.index}@${generationOf(entry)}`)) ?? same[0];
    for (const entry of same) if (entry !== keep) quarantine(context, entry, 'CONTENT_DUPLICATE');
  }
}

const BODY_CODES = [
  'CONTENT_CHECKSUM',
  'CONTENT_SEQUENCE',
  'CONTENT_IMAGE_COUNT',
  'CONTENT_PLACEMENT',
  'CONTENT_REVISION',
  'CONTENT_NUMBER',
  'CONTENT_IMAGES',
] as const;

export function repairContents(context: RepairContext): void {
  repairClaims(context);
  repairPins(context);
  for (const { where, code } of findingsOf(context, ...BODY_CODES)) {
    const entry = context.tables.contents.get(where.index);
    if (entry) quarantine(context, entry, code);
  }
  repairOverlaps(context);
  repairDuplicates(context);
}

/** Draining contents that nobody holds, and quarantined ones when asked. */
export function releaseContents(context: RepairContext, dropQuarantined: boolean): void {
  for (const entry of context.tables.contents.values()) {
    const { state, mask } = entry.bits;
    const wanted = state === DRAINING || (dropQuarantined && state === QUARANTINED);
    if (wanted && mask === 0 && entry.bits.host === NO_HOST) release(context, entry);
  }
}

const CHUNK_CODES = [
  'CHUNK_STATE',
  'CHUNK_FREE',
  'CHUNK_OWNER',
  'CHUNK_STRAY',
  'CHUNK_CLAIM',
  'CHUNK_BLOCK',
  'CHUNK_LOST',
] as const;

/** True when the word may be overwritten: nobody who can be believed owns the chunk by it. */
function isOrphan({ tables }: RepairContext, chunk: number, covered: readonly ContentEntry[]): boolean {
  const word = tables.words.readBigUInt64LE(chunk * 8);
  const { state, content = 0 } = decodeWord(chunkWord, word);
  const owner = tables.contents.get(content);
  if (state !== CHUNK_STATE.USED || !owner || isFree(owner)) return true;
  if (word !== usedWord(owner.index, generationOf(owner))) return true;
  return isFollowable(owner) && !covered.includes(owner);
}

/**
 * Gives every chunk to whom it belongs. A chunk under an image goes back to its content, which is then to be verified; one
 * under no image is freed unless somebody maps it.
 * @returns contents that got a chunk back
 */
export function repairChunks(context: RepairContext): Set<ContentEntry> {
  const { region, tables, step } = context;
  const cover = coverOf(tables);
  const mended = new Set<ContentEntry>();
  const foreign = foreignHosts(context).length > 0;
  for (const chunk of new Set(findingsOf(context, ...CHUNK_CODES).map(({ where }) => where.index))) {
    const covered = cover.get(chunk) ?? [];
    const [owner] = covered;
    if (!isOrphan(context, chunk, covered)) {
      for (const entry of covered) if (!ownsAll(context, entry)) quarantine(context, entry, 'CHUNK_LOST');
      continue;
    }
    if (!owner && (foreign || isChunkLocked(context, chunk))) {
      const who = foreign ? 'a host of another kernel is in the region and' : 'a process';
      context.keep(`chunk ${chunk} stays: ${who} may still map it`);
      continue;
    }
    const word = tables.words.readBigUInt64LE(chunk * 8);
    const next = owner ? usedWord(owner.index, generationOf(owner)) : 0n;
    if (changeWord(region.mapping, wordOffset(tables.header, chunk), word, next))
      step(owner ? `chunk ${chunk} given back to content ${owner.index}` : `chunk ${chunk} freed`);
    if (owner) mended.add(owner);
  }
  return mended;
}

/** Quarantined chunks, when asked: no host that could be writing into them is left on this kernel. */
export function releaseChunks(context: RepairContext): void {
  const { region, tables, step } = context;
  const foreign = new Set(foreignHosts(context).map(({ index }) => index));
  for (const { where } of findingsOf(context, 'CHUNK_QUARANTINED')) {
    const word = tables.words.readBigUInt64LE(where.index * 8);
    if (foreign.has(decodeWord(chunkWord, word).host ?? NO_HOST) || isChunkLocked(context, where.index)) continue;
    if (changeWord(region.mapping, where.offset, word, 0n)) step(`quarantined chunk ${where.index} freed`);
  }
}

/** Contents whose bytes can't be trusted: those with damaged images, and those that lost a chunk for a while. */
export async function repairImages(
  context: RepairContext,
  suspects: Iterable<ContentEntry>,
  options: ImageCheckOptions,
): Promise<void> {
  const area = chunkArea(context.region.mapping, context.tables.header);
  for (const entry of suspects) {
    if (!isFollowable(entry)) continue;
    const findings = await checkContentImages(area, entry, { ...options, digests: true });
    if (findings[0]) quarantine(context, entry, findings[0].code);
  }
}
