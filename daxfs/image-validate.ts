/** Checks an image against every rule of the format, and against what the kernel's own validation leaves out. */
import type { ByteSource } from './byte-source.ts';
import { type Decoded, decode, type FieldName, offsetOf } from './codec.ts';
import { type Finding, Findings } from './image-rules.ts';
import { checkTree } from './image-tree-check.ts';
import { bucket, CONSTANTS, inode, overlayHeader, overlayInode, pageCacheHeader, slot, superblock } from './layout.ts';
import { roundUp } from './units.ts';

export interface ValidationReport {
  /** No rule is broken. */
  ok: boolean;
  /** The kernel's own validation would accept it. */
  upstreamOk: boolean;
  /** The first findings, by structure. */
  findings: Finding[];
  /** All findings, listed or not. */
  total: number;
}

export interface ValidateOptions {
  /** Findings listed, default 100. */
  findingsMax?: number;
}

/** A region of the image, as far as its numbers can be used. */
interface Part {
  name: 'base' | 'overlay' | 'page cache';
  offset: number;
  size: number;
  at: number;
}

type Head = Decoded<typeof superblock>;
const SLOTS_MIN = 8;
const at = (name: FieldName<typeof superblock>) => offsetOf(superblock, name);
const isPowerOfTwo = (n: number) => n > 0 && Number.isInteger(Math.log2(n));
const isZero = (bytes: Buffer) => bytes.every((byte) => byte === 0);
/** 2^53 and more lie outside any source: one value for all of them keeps the arithmetic exact. */
const clamp = (value: bigint) => Number(value > 2n ** 52n ? 2n ** 52n : value);

class ImageCheck {
  readonly findings: Findings;
  readonly #source: ByteSource;
  readonly #head: Head;

  constructor(source: ByteSource, findings: Findings, head: Head) {
    this.#source = source;
    this.findings = findings;
    this.#head = head;
  }

  run(): void {
    if (!this.#mount()) return;
    const parts = [this.#base(), this.#overlay(), this.#pageCache()].filter((part) => part !== undefined);
    this.#reserved();
    this.#layout(parts);
    const base = parts.find(({ name }) => name === 'base');
    if (base && this.#inodeTable(base)) this.#tree(base);
  }

  /** What every mount checks; without it nothing else means anything. */
  #mount(): boolean {
    const { magic, version, block_size: block, overlay_offset: overlay } = this.#head;
    const { superblockMagic, superblockVersion, privateFrontBit, blockBytes } = CONSTANTS;
    const plain = overlay === 0n ? version : version & ~privateFrontBit.value;
    const f = this.findings;
    if (!f.expect(magic === superblockMagic.value, 'SUPER_MAGIC', at('magic'), `0x${magic.toString(16)}`)) return false;
    if (!f.expect(plain === superblockVersion.value, 'SUPER_VERSION', at('version'), `${version}`)) return false;
    const ok = isPowerOfTwo(block) && block >= blockBytes.value && block <= 65536;
    return f.expect(ok, 'SUPER_BLOCK_SIZE', at('block_size'), `${block}`);
  }

  #range(name: Part['name'], offset: bigint, size: bigint, sizeField: FieldName<typeof superblock>): Part | undefined {
    const rules = { base: 'BASE_RANGE', overlay: 'OVERLAY_RANGE', 'page cache': 'PCACHE_RANGE' } as const;
    const ok = offset + size <= BigInt(this.#source.size);
    const detail = `${name} from ${offset}, ${size} bytes, in ${this.#source.size}`;
    if (!this.findings.expect(ok, rules[name], at(sizeField), detail)) return undefined;
    return { name, offset: Number(offset), size: Number(size), at: at(sizeField) };
  }

  #absent(ok: boolean, field: FieldName<typeof superblock>): undefined {
    this.findings.expect(ok, 'ABSENT_REGION', at(field), 'offset 0 means absent, but there is more');
    return undefined;
  }

  #base(): Part | undefined {
    const { base_offset, base_size, inode_count, inode_offset, data_offset } = this.#head;
    if (base_offset !== 0n) return this.#range('base', base_offset, base_size, 'base_size');
    return this.#absent(
      base_size === 0n && inode_count === 0 && inode_offset === 0n && data_offset === 0n,
      'base_size',
    );
  }

  #overlay(): Part | undefined {
    const { overlay_offset, overlay_size, overlay_bucket_count: count, overlay_bucket_shift: shift } = this.#head;
    if (overlay_offset === 0n) return this.#absent(overlay_size === 0n && count === 0 && shift === 0, 'overlay_size');
    const part = this.#range('overlay', overlay_offset, overlay_size, 'overlay_size');
    const f = this.findings;
    if (!f.expect(isPowerOfTwo(count), 'OVERLAY_BUCKET_COUNT', at('overlay_bucket_count'), `${count}`)) return part;
    f.expect(2 ** shift === count, 'COUNT_SHIFT', at('overlay_bucket_shift'), `${shift} for ${count} buckets`);
    const pool = this.#head.block_size + roundUp(count * bucket.size, this.#head.block_size);
    const fits = clamp(overlay_size) >= pool;
    if (f.expect(fits, 'OVERLAY_SIZE', at('overlay_size'), `${overlay_size}, needs ${pool}`) && part) {
      this.#overlayHeader(part, pool);
    }
    return part;
  }

  #overlayHeader(part: Part, pool: number): void {
    const header = decode(overlayHeader, this.#source.read(part.offset, overlayHeader.size));
    const wrong = (field: FieldName<typeof overlayHeader>, detail: string) =>
      this.findings.add('OVERLAY_HEADER', part.offset + offsetOf(overlayHeader, field), `${field}: ${detail}`);
    if (header.magic !== CONSTANTS.overlayMagic.value) wrong('magic', `0x${header.magic.toString(16)}`);
    if (header.version !== CONSTANTS.overlayVersion.value) wrong('version', `${header.version}`);
    if (header.bucket_offset !== BigInt(this.#head.block_size)) wrong('bucket_offset', `${header.bucket_offset}`);
    if (header.pool_offset !== BigInt(pool)) wrong('pool_offset', `${header.pool_offset}, expected ${pool}`);
    if (header.pool_size > BigInt(part.size - pool)) wrong('pool_size', `${header.pool_size} of ${part.size - pool}`);
    if (header.pool_alloc > header.pool_size) wrong('pool_alloc', `${header.pool_alloc} of ${header.pool_size}`);
    if (header.next_ino <= BigInt(this.#head.inode_count)) wrong('next_ino', `${header.next_ino} is a base inode`);
    for (const field of ['free_inode', 'free_data', 'free_dirent'] as const) {
      const first = header[field] & 0xffff_ffff_ffffn;
      const ok = first === 0xffff_ffff_ffffn || first + BigInt(overlayInode.size) <= header.pool_size;
      if (!ok) wrong(field, `${first} lies behind the pool`);
    }
    if (!isZero(header.reserved)) wrong('reserved', 'not zero');
  }

  #pageCache(): Part | undefined {
    const { pcache_offset, pcache_size, pcache_slot_count: count, pcache_hash_shift: shift, block_size } = this.#head;
    if (pcache_offset === 0n) return this.#absent(pcache_size === 0n && count === 0 && shift === 0, 'pcache_size');
    const part = this.#range('page cache', pcache_offset, pcache_size, 'pcache_size');
    const f = this.findings;
    if (!f.expect(isPowerOfTwo(count), 'PCACHE_SLOT_POWER', at('pcache_slot_count'), `${count}`)) return part;
    f.expect(count >= SLOTS_MIN, 'PCACHE_SLOT_MIN', at('pcache_slot_count'), `${count}`);
    f.expect(2 ** shift === count, 'COUNT_SHIFT', at('pcache_hash_shift'), `${shift} for ${count} slots`);
    const data = block_size + roundUp(count * slot.size, block_size);
    const need = data + count * block_size;
    const fits = clamp(pcache_size) >= need;
    if (f.expect(fits, 'PCACHE_SIZE', at('pcache_size'), `${pcache_size}, needs ${need}`) && part) {
      this.#pageCacheHeader(part, data, count);
    }
    return part;
  }

  #pageCacheHeader(part: Part, data: number, slots: number): void {
    const header = decode(pageCacheHeader, this.#source.read(part.offset, pageCacheHeader.size));
    const wrong = (field: FieldName<typeof pageCacheHeader>, detail: string) =>
      this.findings.add('PCACHE_HEADER', part.offset + offsetOf(pageCacheHeader, field), `${field}: ${detail}`);
    if (header.magic !== CONSTANTS.pageCacheMagic.value) wrong('magic', `0x${header.magic.toString(16)}`);
    if (header.version !== CONSTANTS.pageCacheVersion.value) wrong('version', `${header.version}`);
    if (header.slot_meta_offset !== BigInt(this.#head.block_size))
      wrong('slot_meta_offset', `${header.slot_meta_offset}`);
    if (header.slot_data_offset !== BigInt(data))
      wrong('slot_data_offset', `${header.slot_data_offset}, expected ${data}`);
    if (header.pending_count > slots) wrong('pending_count', `${header.pending_count} of ${slots} slots`);
    if (!isZero(header.reserved)) wrong('reserved', 'not zero');
  }

  #reserved(): void {
    const { reserved0, reserved, locator } = this.#head;
    this.findings.expect(reserved0 === 0, 'SUPER_RESERVED', at('reserved0'), `${reserved0}`);
    this.findings.expect(isZero(reserved), 'SUPER_RESERVED', at('reserved'), 'not zero');
    this.findings.expect(isZero(locator), 'SUPER_RESERVED', at('locator'), 'an image has no locator');
  }

  #layout(parts: readonly Part[]): void {
    const block = this.#head.block_size;
    const all = [{ name: 'superblock', offset: 0, size: superblock.size, at: 0 }, ...parts];
    all.forEach((a, i) => {
      for (const b of all.slice(i + 1)) {
        const apart = a.offset + a.size <= b.offset || b.offset + b.size <= a.offset;
        this.findings.expect(apart, 'REGION_OVERLAP', b.at, `${a.name} and ${b.name}`);
      }
      this.findings.expect(a.offset % block === 0, 'REGION_ALIGNMENT', a.at, `${a.name} at ${a.offset}`);
    });
    const end = Math.max(block, ...parts.map(({ offset, size }) => offset + size));
    const found = this.#head.total_size;
    const ok = found === BigInt(end) && end <= this.#source.size;
    this.findings.expect(ok, 'TOTAL_SIZE', at('total_size'), `${found}, the last region ends at ${end}`);
  }

  #inodeTable(base: Part): boolean {
    const { inode_count: count, inode_offset, data_offset, root_inode: root, block_size } = this.#head;
    const f = this.findings;
    if (!f.expect(count > 0, 'INODE_COUNT', at('inode_count'), '0')) return false;
    const end = clamp(inode_offset) + count * inode.size;
    if (!f.expect(end <= base.size, 'INODE_TABLE_RANGE', at('inode_count'), `${count} inodes in ${base.size} bytes`)) {
      return false;
    }
    const data = roundUp(end, block_size);
    f.expect(data_offset === BigInt(data), 'DATA_OFFSET', at('data_offset'), `${data_offset}, expected ${data}`);
    return f.expect(root >= 1 && root <= count, 'ROOT_INODE', at('root_inode'), `${root} of ${count}`);
  }

  #tree(base: Part): void {
    const { inode_count: inodeCount, root_inode: root, inode_offset, block_size: block } = this.#head;
    const table = base.offset + clamp(inode_offset);
    const hasPageCache = this.#head.pcache_offset !== 0n;
    const geometry = {
      offset: base.offset,
      end: base.offset + base.size,
      table,
      inodeCount,
      root,
      block,
      hasPageCache,
    };
    checkTree(this.#source, geometry, this.findings);
  }
}

/**
 * Checks the whole metadata of an image; file data is not read. The source must not be larger than what the image's
 * reader would map. Never throws for what the bytes say; reading errors of the source pass through.
 */
export function validateImage(source: ByteSource, options: ValidateOptions = {}): ValidationReport {
  const findings = new Findings(options.findingsMax ?? 100);
  if (findings.expect(source.size >= superblock.size, 'SUPER_TRUNCATED', 0, `${source.size} bytes`)) {
    new ImageCheck(source, findings, decode(superblock, source.read(0, superblock.size))).run();
  }
  const { list, total, upstream } = findings;
  return { ok: total === 0, upstreamOk: upstream === 0, findings: list, total };
}
