/** Rules of chunk words: who owns a chunk, and does the owner know. */
import { decodeWord, encodeWord, offsetOf } from '../codec.ts';
import { CHUNK_STATE, CONTENT_STATE, chunkWord, NO_HOST, registryState } from '../layout.ts';
import type { CheckCode, FindingList } from './findings.ts';
import { type ContentEntry, hasReservedBytes, isFollowable, type Tables, wordOffset } from './tables.ts';

const { LOADING, FREEING, READY, DRAINING, QUARANTINED, FREE } = CONTENT_STATE;

/** The word of a chunk that a content uses: it carries the low 16 bits of the content's generation. */
export function usedWord(index: number, generation: number): bigint {
  const fields = { state: CHUNK_STATE.USED, content: index, host: NO_HOST, host_generation: generation & 0xffff };
  return encodeWord(chunkWord, fields);
}

/** Chunk -> the followable contents with an image there. */
export function coverOf(tables: Tables): Map<number, ContentEntry[]> {
  const cover = new Map<number, ContentEntry[]>();
  for (const entry of tables.contents.values()) {
    if (!isFollowable(entry)) continue;
    for (const { firstChunk, chunkCount } of entry.content.images) {
      for (let chunk = firstChunk; chunk < firstChunk + chunkCount; chunk++) {
        cover.set(chunk, [...(cover.get(chunk) ?? []), entry]);
      }
    }
  }
  return cover;
}

interface Chunk {
  index: number;
  word: bigint;
  bits: Readonly<Record<string, number>>;
  owner: ContentEntry | undefined;
}

type Verdict = readonly [CheckCode, string] | undefined;

/** USED: by a content that has an image there, or whose images are not known (being published, freed, fenced off). */
function judgeUsed({ index, word, bits, owner }: Chunk, cover: readonly ContentEntry[]): Verdict {
  const row = bits.content ?? 0;
  if (owner === undefined || owner.bits.state === FREE)
    return ['CHUNK_STRAY', `Chunk ${index} belongs to content row ${row}, which is free.`];
  if (word !== usedWord(row, owner.bits.generation ?? 0))
    return ['CHUNK_STRAY', `Chunk ${index} belongs to an older use of content row ${row}, or its word is damaged.`];
  const known = isFollowable(owner);
  if (known && !cover.includes(owner)) return ['CHUNK_STRAY', `Chunk ${index} is in no image of content ${row}.`];
  return undefined;
}

/** CLAIMED: by a live host for a content that it loads, or just gives up. */
function judgeClaim({ index, bits, owner }: Chunk, tables: Tables): Verdict {
  const { host = NO_HOST, host_generation: generation = 0, content = 0 } = bits;
  const claimant = tables.liveness(host, generation);
  if (claimant === 'nobody') return ['CHUNK_CLAIM', `Chunk ${index} is claimed by host row ${host}.`];
  if (claimant === 'dead')
    return ['CHUNK_DEAD_CLAIM', `Chunk ${index} was claimed by host row ${host}, which is gone.`];
  const state = owner?.bits.state;
  const theirs = owner?.bits.host === host && owner.bits.host_generation === generation;
  if (theirs && (state === LOADING || state === FREEING)) return undefined;
  return ['CHUNK_CLAIM', `Chunk ${index} is claimed for content row ${content}, which its host does not load.`];
}

function judgeBlock({ index, bits, owner }: Chunk): Verdict {
  const state = owner?.bits.state ?? FREE;
  if (state === READY || state === DRAINING || state === FREEING || state === QUARANTINED) return undefined;
  return ['CHUNK_BLOCK', `Chunk ${index} holds a block of content row ${bits.content}, which is gone.`];
}

function judge(chunk: Chunk, tables: Tables, cover: readonly ContentEntry[]): Verdict {
  const { index, word, bits } = chunk;
  const { state = 0, content = 0, host = NO_HOST } = bits;
  if (word === 0n) return undefined;
  if (state === CHUNK_STATE.FREE)
    return ['CHUNK_FREE', `Chunk ${index} is free, but its word is 0x${word.toString(16)}.`];
  if (state > CHUNK_STATE.QUARANTINED) return ['CHUNK_STATE', `Chunk ${index} has state ${state}.`];
  if (content >= tables.header.geometry.contents)
    return ['CHUNK_OWNER', `Chunk ${index} belongs to content row ${content}; there is none.`];
  if (state === CHUNK_STATE.USED) return judgeUsed(chunk, cover);
  if (state === CHUNK_STATE.CLAIMED) return judgeClaim(chunk, tables);
  if (state === CHUNK_STATE.VALID) return judgeBlock(chunk);
  if (state === CHUNK_STATE.QUARANTINED)
    return ['CHUNK_QUARANTINED', `Chunk ${index} is quarantined (host row ${host}).`];
  return judgePending(chunk, tables);
}

function judgePending({ index, bits }: Chunk, tables: Tables): Verdict {
  const { host = NO_HOST, host_generation: generation = 0 } = bits;
  const filler = tables.liveness(host, generation);
  if (filler === 'nobody') return ['CHUNK_CLAIM', `Chunk ${index} is filled by host row ${host}.`];
  return filler === 'dead'
    ? ['CHUNK_DEAD_CLAIM', `Chunk ${index} was being filled by a host that is gone.`]
    : undefined;
}

/** Every image's chunks belong to its content, and every chunk that is not free to somebody who knows. */
export function checkChunks(tables: Tables, found: FindingList): void {
  const cover = coverOf(tables);
  const { chunkCount } = tables.header.geometry;
  for (let index = 0; index < chunkCount; index++) {
    const word = tables.words.readBigUInt64LE(index * 8);
    const entries = cover.get(index) ?? [];
    if (word === 0n && entries.length === 0) continue;
    const bits = decodeWord(chunkWord, word);
    const owner = tables.contents.get(bits.content ?? 0);
    const where = { struct: 'chunk_word', index, offset: wordOffset(tables.header, index) } as const;
    const verdict = judge({ index, word, bits, owner }, tables, entries);
    if (verdict) found.add(verdict[0], where, verdict[1], `${word} ${owner?.word ?? 0n}`);
    for (const entry of entries) {
      if (word === usedWord(entry.index, entry.bits.generation ?? 0)) continue;
      const message = `Chunk ${index} lies in an image of content ${entry.index}, but its word says otherwise.`;
      found.add('CHUNK_LOST', where, message, `${word} ${entry.word}`);
    }
  }
}

/** The shared counters are hints, but none of them can count more chunks than there are. */
export function checkState(bytes: Buffer, tables: Tables, found: FindingList): void {
  const { registryOffset, stateOffset, chunkCount } = tables.header.geometry;
  const start = registryOffset + stateOffset;
  for (const name of ['alloc_hint', 'chunks_free'] as const) {
    const offset = offsetOf(registryState, name);
    const value = bytes.readBigUInt64LE(offset);
    const where = { struct: 'registry_state', index: 0, offset: start + offset } as const;
    if (value > BigInt(chunkCount)) found.add('STATE_COUNTER', where, `${name} is ${value} of ${chunkCount} chunks.`);
  }
  const reserved = offsetOf(registryState, 'reserved');
  if (!hasReservedBytes(bytes, reserved, registryState.size - reserved)) return;
  const where = { struct: 'registry_state', index: 0, offset: start + reserved } as const;
  found.add('STATE_RESERVED', where, 'The shared counters have bytes in their reserved field.');
}
