/** Rules of content rows, and of contents against each other. */
import { offsetOf } from '../codec.ts';
import type { ContentRule } from '../content-row.ts';
import { CONTENT_STATE, contentRow, HOST_STATE, NO_HOST } from '../layout.ts';
import type { CheckCode, FindingList } from './findings.ts';
import { type ContentEntry, hasReservedBytes, isFollowable, isFree, type Tables } from './tables.ts';

const { RESERVED, CLAIMING, LOADING, READY, DRAINING, FREEING, QUARANTINED } = CONTENT_STATE;
const CLAIMS: ReadonlySet<number> = new Set([RESERVED, CLAIMING, LOADING, FREEING]);
const at = {
  reserved: offsetOf(contentRow, 'reserved'),
  flags: offsetOf(contentRow, 'flags'),
};

const CODE_OF: Record<ContentRule, CheckCode> = {
  checksum: 'CONTENT_CHECKSUM',
  sequence: 'CONTENT_SEQUENCE',
  'image-count': 'CONTENT_IMAGE_COUNT',
  placement: 'CONTENT_PLACEMENT',
  revision: 'CONTENT_REVISION',
  number: 'CONTENT_NUMBER',
  images: 'CONTENT_IMAGES',
};

/** Adds findings about one content; what was seen is its word. */
export function contentAdder(found: FindingList, { index, offset, word }: ContentEntry) {
  return (code: CheckCode, message: string, evidence: string | bigint = word) =>
    found.add(code, { struct: 'content_row', index, offset }, message, evidence);
}

type Add = ReturnType<typeof contentAdder>;

/** Which host a word may name: a claim names one and holds no mask, a published row names none. */
function checkClaim({ bits, index }: ContentEntry, tables: Tables, add: Add): void {
  const { state = 0, host = 0, mask = 0, host_generation: generation = 0 } = bits;
  if (CLAIMS.has(state)) {
    if (mask !== 0) {
      add('CONTENT_CLAIM', `Content ${index} is claimed and pinned at once.`);
      return;
    }
    const owner = tables.liveness(host, generation);
    if (owner === 'nobody') add('CONTENT_CLAIM', `Content ${index} is claimed by host row ${host}.`);
    if (owner === 'dead') add('CONTENT_DEAD_CLAIM', `Content ${index} was claimed by host row ${host}, which is gone.`);
    return;
  }
  if (host !== NO_HOST && state !== QUARANTINED)
    add('CONTENT_CLAIM', `Content ${index} is published and names host row ${host}.`);
}

function checkMask(entry: ContentEntry, tables: Tables, add: Add): void {
  const { mask = 0, state = 0 } = entry.bits;
  if (CLAIMS.has(state)) return;
  for (let host = 0; host < NO_HOST; host++) {
    if ((mask & (1 << host)) === 0) continue;
    const row = tables.hosts.find(({ index }) => index === host);
    const hostState = row?.bits.state ?? HOST_STATE.FREE;
    if (hostState === HOST_STATE.FREE)
      add('CONTENT_MASK', `Content ${entry.index} is pinned by host row ${host}, which is free.`);
    else if (hostState === HOST_STATE.LIVE && tables.liveness(host, row?.bits.generation ?? 0) === 'dead')
      add('CONTENT_DEAD_PIN', `Content ${entry.index} is pinned by host row ${host}, whose process is gone.`);
  }
  if (state === DRAINING && mask === 0)
    add('CONTENT_DRAINED', `Content ${entry.index} drains, is held by no host, and is not freed yet.`);
}

function checkBody(entry: ContentEntry, add: Add): void {
  const { broken, bytes, index, word } = entry;
  if (hasReservedBytes(bytes, at.reserved, contentRow.size - at.reserved))
    add('CONTENT_RESERVED', `Content row ${index} has bytes in its reserved field.`);
  const flags = bytes.readUInt32LE(at.flags);
  if (flags > 1) add('CONTENT_FLAGS', `Content ${index} has flags 0x${flags.toString(16)}.`);
  if (broken) add(CODE_OF[broken.rule], `Content ${index}: ${broken.text}.`, `${word} ${broken.text}`);
}

function checkContent(entry: ContentEntry, tables: Tables, found: FindingList): void {
  const add = contentAdder(found, entry);
  const { state = 0 } = entry.bits;
  if (state > QUARANTINED) {
    add('CONTENT_STATE', `Content row ${entry.index} has state ${state}.`);
    return;
  }
  checkBody(entry, add);
  if (isFree(entry)) return;
  checkClaim(entry, tables, add);
  checkMask(entry, tables, add);
  if (state === QUARANTINED) add('CONTENT_QUARANTINED', `Content ${entry.index} is quarantined.`);
}

function checkSources(tables: Tables, found: FindingList): void {
  const seen = new Map<string, ContentEntry>();
  for (const entry of tables.contents.values()) {
    if (entry.bits.state !== LOADING && entry.bits.state !== READY) continue;
    const first = seen.get(entry.content.sourceKey);
    if (first === undefined) seen.set(entry.content.sourceKey, entry);
    else
      contentAdder(found, entry)(
        'CONTENT_DUPLICATE',
        `Contents ${first.index} and ${entry.index} are of one source.`,
        `${first.word} ${entry.word}`,
      );
  }
}

function checkOverlaps(tables: Tables, found: FindingList): void {
  const all = [...tables.contents.values()].filter(isFollowable);
  const images = all.flatMap((entry) => entry.content.images.map((image) => ({ entry, ...image })));
  images.sort((a, b) => a.firstChunk - b.firstChunk);
  let last = images[0];
  for (const image of images.slice(1)) {
    const end = (last?.firstChunk ?? 0) + (last?.chunkCount ?? 0);
    if (last && image.firstChunk < end)
      contentAdder(found, image.entry)(
        'CONTENT_OVERLAP',
        `Contents ${last.entry.index} and ${image.entry.index} both have an image in chunk ${image.firstChunk}.`,
        `${last.entry.word} ${image.entry.word}`,
      );
    if (image.firstChunk + image.chunkCount > end) last = image;
  }
}

export function checkContents(tables: Tables, found: FindingList): void {
  for (const entry of tables.contents.values()) checkContent(entry, tables, found);
  checkSources(tables, found);
  checkOverlaps(tables, found);
}
