/**
 * Goal: planted damage of every kind is found and named, and repair leaves a sound region. Method: one entry per rule,
 * planted by single words or bytes in a copy of a region with two models; the codes found are exactly those expected.
 */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { usedWord } from '../../daxfs/check/check-chunks.ts';
import { chunkArea } from '../../daxfs/check/check-images.ts';
import { hashOfName } from '../../daxfs/check/check-names.ts';
import { CHECK_RULES, type CheckCode } from '../../daxfs/check/findings.ts';
import { readTables, type Tables } from '../../daxfs/check/tables.ts';
import { decodeWord, encodeWord, offsetOf } from '../../daxfs/codec.ts';
import { contentFiles } from '../../daxfs/content-files.ts';
import { checksummedBytes } from '../../daxfs/content-row.ts';
import { FRONT_RULES } from '../../daxfs/front-rules.ts';
import { bootId } from '../../daxfs/host-identity.ts';
import {
  CHUNK_STATE,
  CONTENT_STATE,
  chunkWord,
  contentRow,
  contentWord,
  HOST_STATE,
  hostRow,
  hostWord,
  INTENT_STATE,
  intentRow,
  intentWord,
  NAME_STATE,
  NO_CONTENT,
  NO_HOST,
  nameRow,
  nameWord,
  overlayHeader,
  registryHeader,
  registryState,
} from '../../daxfs/layout.ts';
import { locatorAt } from '../../daxfs/region-format.ts';
import { MANIFEST_PATH } from '../../loaders/index.ts';
import { native } from '../../native/index.ts';
import { makeOriginal, RegionCopy } from './region-copies.ts';

let original: Awaited<ReturnType<typeof makeOriginal>>;
beforeAll(async () => {
  original = await makeOriginal();
});
afterAll(() => original.remove());

/** A copy with the tables of its two contents taken apart. */
class Victim extends RegionCopy {
  tables(): Tables {
    return readTables(this.mapping, this.header, { locked: () => false, ownBootId: '' });
  }
  /** The two contents, lowest index first. */
  content(i: 0 | 1) {
    return [...this.tables().contents.values()].sort((a, b) => a.index - b.index)[i]!;
  }
  name(i: 0 | 1) {
    return this.tables().names.filter(({ bits }) => bits.state === NAME_STATE.USED)[i]!;
  }
  freeName(): number {
    const taken = new Set(this.tables().names.map(({ index }) => index));
    for (let index = 1; ; index++) if (![index - 1, index, index + 1].some((i) => taken.has(i))) return index;
  }
  firstChunk(i: 0 | 1): number {
    return this.content(i).content.images[0]!.firstChunk;
  }
  freeChunk(): number {
    const { words } = this.tables();
    for (let chunk = 0; ; chunk++) if (words.readBigUInt64LE(chunk * 8) === 0n) return chunk;
  }
  /** Sets bit fields of a word. */
  bits(offset: number, spec: typeof nameWord, fields: Record<string, number>): void {
    const word = this.mapping.load64(offset);
    this.mapping.store64(offset, encodeWord(spec, { ...decodeWord(spec, word), ...fields }));
  }
  u32(offset: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.mapping.write(offset, bytes);
  }
  /** Changes fields of a published row and makes its checksum fit. */
  row(i: 0 | 1, change: (at: (name: string) => number) => void): void {
    const { offset } = this.content(i);
    change((name) => offset + offsetOf(contentRow, name as 'word'));
    const sum = native.xxh3(checksummedBytes(this.mapping.read(offset, contentRow.size)));
    this.mapping.store64(offset + offsetOf(contentRow, 'checksum'), sum);
  }
  place(i: 0 | 1, path?: string): { offset: number; size: number } {
    const files = contentFiles(chunkArea(this.mapping, this.header), this.content(i).content);
    const key = path ?? [...files.keys()].find((name) => name !== MANIFEST_PATH)!;
    return files.get(key)!;
  }
  host(index: number, fields: Record<string, number>, name = `host-${index}`): void {
    const at = this.at('host', index);
    this.mapping.write(at + offsetOf(hostRow, 'boot_id'), bootId());
    this.mapping.write(at + offsetOf(hostRow, 'name'), Buffer.from(name));
    this.u32(at + offsetOf(hostRow, 'name_len'), Buffer.byteLength(name));
    this.mapping.store64(at, encodeWord(hostWord, { by_host: NO_HOST, ...fields }));
  }
  writeName(
    index: number,
    name: string,
    fields: Record<string, number> = {},
    hash = hashOfName(Buffer.from(name)),
  ): void {
    const at = this.at('name', index);
    this.mapping.write(at + offsetOf(nameRow, 'name'), Buffer.from(name));
    this.u32(at + offsetOf(nameRow, 'name_len'), Buffer.byteLength(name));
    this.mapping.store64(at + offsetOf(nameRow, 'hash'), hash);
    const word = { state: NAME_STATE.USED, content: NO_CONTENT, host: NO_HOST, ...fields };
    this.mapping.store64(at, encodeWord(nameWord, word));
  }
}

interface Plant {
  plant: (victim: Victim) => void;
  /** Codes found besides the one planted: what the damage entails. */
  also?: CheckCode[];
  /** Codes that stay after repair. */
  left?: CheckCode[];
  digests?: boolean;
}

const plants: Partial<Record<CheckCode, Plant>> = {
  UNFINISHED: { plant: (v) => v.mapping.store64(0, 0n), left: ['UNFINISHED'] },
  SUPERBLOCK: { plant: (v) => v.flip(17) },
  LOCATOR_HEAD: { plant: (v) => v.flip(locatorAt + 18) },
  LOCATOR_TAIL: { plant: (v) => v.flip(v.header.geometry.tailOffset) },
  HEADER_COPY: { plant: (v) => v.flip(v.header.geometry.registryOffset + 500) },
  HEADER_LOST: {
    plant: (v) => [0, 1].map((copy) => v.flip(v.header.geometry.registryOffset + copy * registryHeader.size + 50)),
    left: ['HEADER_LOST'],
  },
  STATE_COUNTER: { plant: (v) => v.mapping.store64(stateAt(v) + offsetOf(registryState, 'alloc_hint'), 1n << 40n) },
  STATE_RESERVED: { plant: (v) => v.flip(stateAt(v) + 4000) },

  HOST_STATE: { plant: (v) => v.host(3, { state: 6, generation: 4 }) },
  HOST_NAME: { plant: (v) => v.host(3, { state: HOST_STATE.LIVE, generation: 4 }, '') },
  HOST_DUPLICATE: {
    plant: (v) => [2, 3].map((row) => v.host(row, { state: HOST_STATE.LIVE, generation: 1 }, 'twin')),
    also: ['HOST_DEAD'],
  },
  HOST_RECOVERER: { plant: (v) => v.host(3, { state: HOST_STATE.RECOVERING, generation: 4, by_host: NO_HOST }) },
  HOST_RESERVED: { plant: (v) => v.flip(v.at('host', 0) + offsetOf(hostRow, 'reserved') + 9) },
  HOST_DEAD: { plant: (v) => v.host(3, { state: HOST_STATE.LIVE, generation: 1 }) },

  CONTENT_STATE: {
    plant: (v) => v.bits(v.content(1).offset, contentWord, { state: 12 }),
    also: [],
  },
  CONTENT_CLAIM: { plant: (v) => v.bits(v.content(1).offset, contentWord, { host: 2 }) },
  CONTENT_MASK: { plant: (v) => v.bits(v.content(1).offset, contentWord, { mask: 1 << 5 }) },
  CONTENT_CHECKSUM: { plant: (v) => v.flip(v.content(1).offset + offsetOf(contentRow, 'digest')), left: [] },
  CONTENT_SEQUENCE: { plant: (v) => v.flip(v.content(1).offset + offsetOf(contentRow, 'sequence')) },
  CONTENT_IMAGE_COUNT: { plant: (v) => v.row(1, (at) => v.u32(at('image_count'), 33)) },
  CONTENT_PLACEMENT: { plant: (v) => v.row(1, (at) => v.flip(at('placement'), 7)) },
  CONTENT_REVISION: { plant: (v) => v.row(1, (at) => v.flip(at('revision_len'), 0xff)) },
  CONTENT_NUMBER: { plant: (v) => v.row(1, (at) => v.flip(at('bytes') + 7, 0x40)) },
  CONTENT_IMAGES: { plant: (v) => v.row(1, (at) => v.u32(at('images'), 1 << 30)) },
  CONTENT_OVERLAP: {
    plant: (v) => v.row(1, (at) => v.u32(at('images'), v.firstChunk(0))),
    also: ['CHUNK_LOST', 'CHUNK_STRAY', 'MANIFEST_ROW'],
  },
  CONTENT_DUPLICATE: {
    plant: (v) => {
      const key = offsetOf(contentRow, 'source_key_lo');
      v.mapping.write(v.content(1).offset + key, v.mapping.read(v.content(0).offset + key, 16));
    },
  },
  CONTENT_FLAGS: { plant: (v) => v.flip(v.content(1).offset + offsetOf(contentRow, 'flags'), 0x80) },
  CONTENT_RESERVED: { plant: (v) => v.flip(v.content(1).offset + contentRow.size - 1) },
  CONTENT_DEAD_CLAIM: {
    plant: (v) => {
      const fields = { state: CONTENT_STATE.LOADING, host: 4, host_generation: 1, generation: 0 };
      v.mapping.store64(v.at('content', v.freeContent(0)), encodeWord(contentWord, fields));
    },
  },
  CONTENT_DEAD_PIN: {
    plant: (v) => {
      v.host(3, { state: HOST_STATE.LIVE, generation: 1 });
      v.bits(v.content(1).offset, contentWord, { mask: 1 << 3 });
    },
    also: ['HOST_DEAD'],
  },
  CONTENT_DRAINED: { plant: (v) => v.bits(v.content(1).offset, contentWord, { state: CONTENT_STATE.DRAINING }) },
  CONTENT_NAMELESS: {
    plant: (v) => {
      const { index } = v.content(1);
      const bucket = v.tables().names.find(({ bits }) => bits.content === index)!;
      v.bits(bucket.offset, nameWord, { content: NO_CONTENT, generation: 0 });
    },
    left: ['CONTENT_NAMELESS'],
  },
  CONTENT_QUARANTINED: {
    plant: (v) => v.bits(v.content(1).offset, contentWord, { state: CONTENT_STATE.QUARANTINED }),
    left: ['CONTENT_QUARANTINED'],
  },

  CHUNK_STATE: { plant: (v) => v.mapping.store64(v.at('chunk', v.freeChunk()), 7n) },
  CHUNK_FREE: { plant: (v) => v.mapping.store64(v.at('chunk', v.freeChunk()), 1n << 20n) },
  CHUNK_OWNER: { plant: (v) => v.mapping.store64(v.at('chunk', v.freeChunk()), usedWord(50_000, 0)) },
  CHUNK_STRAY: { plant: (v) => v.mapping.store64(v.at('chunk', v.freeChunk()), usedWord(v.content(0).index, 0)) },
  CHUNK_LOST: { plant: (v) => v.mapping.store64(v.at('chunk', v.firstChunk(1) + 1), 0n) },
  CHUNK_CLAIM: {
    plant: (v) => v.mapping.store64(v.at('chunk', v.freeChunk()), chunkClaim(v, CHUNK_STATE.CLAIMED, NO_HOST)),
  },
  CHUNK_BLOCK: {
    plant: (v) => v.mapping.store64(v.at('chunk', v.freeChunk()), chunkClaim(v, CHUNK_STATE.VALID, NO_HOST)),
  },
  CHUNK_DEAD_CLAIM: {
    plant: (v) => v.mapping.store64(v.at('chunk', v.freeChunk()), chunkClaim(v, CHUNK_STATE.CLAIMED, 4)),
  },
  CHUNK_QUARANTINED: {
    plant: (v) => v.mapping.store64(v.at('chunk', v.freeChunk()), chunkClaim(v, CHUNK_STATE.QUARANTINED, NO_HOST)),
    left: ['CHUNK_QUARANTINED'],
  },

  NAME_STATE: { plant: (v) => v.bits(v.name(0).offset, nameWord, { state: 5 }), also: ['CONTENT_NAMELESS'] },
  NAME_HALF: {
    plant: (v) =>
      v.mapping.store64(
        v.at('name', v.freeName()),
        encodeWord(nameWord, { state: 2, content: NO_CONTENT, host: NO_HOST }),
      ),
  },
  NAME_LENGTH: {
    plant: (v) => v.u32(v.name(0).offset + offsetOf(nameRow, 'name_len'), 195),
    also: ['CONTENT_NAMELESS'],
  },
  NAME_TEXT: {
    plant: (v) => v.flip(v.name(0).offset + offsetOf(nameRow, 'name') + 150, 0x41),
    also: ['CONTENT_NAMELESS'],
  },
  NAME_HASH: { plant: (v) => v.flip(v.name(0).offset + offsetOf(nameRow, 'hash') + 7) },
  NAME_UNREACHABLE: {
    plant: (v) => {
      const name = 'moved:latest';
      const home = Number((hashOfName(Buffer.from(name)) >> 1n) & BigInt(v.header.geometry.names - 1));
      const { index, bits } = v.content(0);
      v.writeName((home + 2) % v.header.geometry.names, name, { content: index, generation: bits.generation! });
    },
  },
  NAME_DUPLICATE: {
    plant: (v) => {
      const row = v.name(0);
      v.mapping.write(v.at('name', (row.index + 1) % v.header.geometry.names), row.bytes);
    },
  },
  NAME_TARGET: {
    plant: (v) => v.bits(v.name(0).offset, nameWord, { content: 99_999 }),
    also: ['CONTENT_NAMELESS'],
    left: ['CONTENT_NAMELESS'],
  },
  NAME_CLAIM: { plant: (v) => v.bits(v.name(0).offset, nameWord, { host: 3 }) },
  NAME_RESERVED: { plant: (v) => v.flip(v.name(0).offset + 255) },
  NAME_DEAD_CLAIM: {
    plant: (v) => {
      const index = v.freeName();
      v.mapping.store64(v.at('name', index) + 8, 12345n);
      const claim = { state: NAME_STATE.CLAIMED, content: NO_CONTENT, host: 4, host_generation: 1 };
      v.mapping.store64(v.at('name', index), encodeWord(nameWord, claim));
    },
  },
  NAME_STALE: {
    plant: (v) => {
      const name = 'old:latest';
      const home = Number((hashOfName(Buffer.from(name)) >> 1n) & BigInt(v.header.geometry.names - 1));
      const content = v.freeContent(0);
      v.mapping.store64(v.at('content', content), encodeWord(contentWord, { generation: 5, host: NO_HOST }));
      v.writeName(home, name, { content, generation: 4 });
    },
  },

  INTENT_STATE: { plant: (v) => v.mapping.store64(v.at('intent', 1), intentOf(6, 1, 2)) },
  INTENT_KIND: { plant: (v) => v.mapping.store64(v.at('intent', 1), intentOf(INTENT_STATE.READY, 0, 2)) },
  INTENT_OWNER: { plant: (v) => v.mapping.store64(v.at('intent', 1), intentOf(INTENT_STATE.READY, 1, NO_HOST)) },
  INTENT_RESERVED: { plant: (v) => v.flip(v.at('intent', 1) + intentRow.size - 1) },
  INTENT_DEAD: { plant: (v) => v.mapping.store64(v.at('intent', 1), intentOf(INTENT_STATE.READY, 1, 4)) },

  IMAGE_SIZE: {
    plant: (v) =>
      v.row(1, (at) => {
        v.flip(at('images') + 9, 0x01);
      }),
    also: [],
  },
  IMAGE_FORMAT: { plant: (v) => v.flip(v.header.geometry.chunksOffset + v.firstChunk(1) * 2 ** 21 + 8) },
  MANIFEST_MISSING: {
    plant: (v) => {
      const at = v.mapping
        .read(v.header.geometry.chunksOffset + v.firstChunk(1) * 2 ** 21, 2 ** 21)
        .indexOf('manifest.json');
      v.flip(v.header.geometry.chunksOffset + v.firstChunk(1) * 2 ** 21 + at, 0x20);
    },
  },
  MANIFEST_FORMAT: { plant: (v) => v.flip(v.place(1, MANIFEST_PATH).offset) },
  MANIFEST_FILES: {
    plant: (v) => {
      const start = v.header.geometry.chunksOffset + v.firstChunk(1) * 2 ** 21;
      const at = v.mapping.read(start, 2 ** 21).indexOf('.safetensors');
      v.flip(start + at + 1, 0x20);
    },
  },
  MANIFEST_ROW: { plant: (v) => v.row(1, (at) => v.u32(at('tensor_count'), 77)) },
  FILE_DIGEST: { plant: (v) => v.flip(v.place(1).offset + 3_000_000), digests: true },
  FRONT_OVERLAY_HEADER: {
    plant: (v) => v.flip(v.header.geometry.overlayOffset + offsetOf(overlayHeader, 'reserved') + 5),
  },
  // What of it is damage shows when the operation is finished.
  FRONT_UNSETTLED: {
    plant: (v) => {
      v.mapping.store64(v.at('intent', 1), intentOf(INTENT_STATE.READY, 1, 4));
      v.mapping.store64(overlayOf(v) + offsetOf(overlayHeader, 'pool_alloc'), 8n);
    },
    also: ['INTENT_DEAD'],
  },
};

const overlayOf = (v: Victim) => v.header.geometry.overlayOffset;
const stateAt = (v: Victim) => v.header.geometry.registryOffset + v.header.geometry.stateOffset;
const chunkClaim = (v: Victim, state: number, host: number) =>
  encodeWord(chunkWord, { state, content: v.freeContent(0), host, host_generation: 1 });
const intentOf = (state: number, kind: number, host: number) =>
  encodeWord(intentWord, { state, kind, host, host_generation: 9, sequence: 3 });

/** What the damage may leave as notes after repair: fenced off, or without a name. */
const NOTES: readonly CheckCode[] = ['CONTENT_QUARANTINED', 'CONTENT_NAMELESS', 'NAME_STALE'];

const codesOf = (report: { findings: { code: CheckCode }[]; leftovers: { code: CheckCode }[] }) =>
  [...new Set([...report.findings, ...report.leftovers].map(({ code }) => code))].sort();

describe.each(Object.entries(plants) as [CheckCode, Plant][])(
  '%s',
  (code, { plant, also = [], left, digests = false }) => {
    it('is found as what it is, and repaired', async () => {
      const victim = new Victim(original.path);
      onTestFinished(() => victim.dispose());
      plant(victim);
      const found = await victim.check({ digests });
      expect(codesOf(found)).toEqual([...new Set([code, ...also])].sort());
      expect(found.sound).toBe([...found.findings].length === 0);
      const { after, before } = await victim.repair({ digests });
      expect(codesOf(before)).toEqual(codesOf(found));
      if (left) expect(codesOf(after).filter((c) => !NOTES.includes(c) || left.includes(c))).toEqual([...left].sort());
      else expect(codesOf(after).filter((c) => !NOTES.includes(c))).toEqual([]);
      const again = await victim.repair({ digests });
      expect(again.steps).toEqual([]);
    });
  },
);

it('an offset that leads behind the region is a finding where it is written', async () => {
  const victim = new Victim(original.path);
  onTestFinished(() => victim.dispose());
  const at = overlayOf(victim) + offsetOf(overlayHeader, 'free_data');
  victim.mapping.store64(at, (1n << 48n) - 4096n);
  const { findings } = await victim.check();
  expect(findings.map(({ code, where }) => [code, where.offset])).toEqual([
    ['FRONT_OVERLAY_HEADER', at],
    ['FRONT_FREE_LIST', at],
  ]);
});

it('every rule has an entry', () => {
  // front-damage.test.ts has those of overlay and page cache.
  const ofFront = Object.keys(FRONT_RULES).map((rule) => `FRONT_${rule}`);
  const covered = [...Object.keys(plants), 'TRUNCATED', 'FRONT_CACHE_HEADER', ...ofFront].sort();
  expect(covered).toEqual(Object.keys(CHECK_RULES).sort());
});
