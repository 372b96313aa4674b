/** The front of a region: superblock, overlay header and page-cache header by the rules of the format, then what others know of it. */
import type { Mapping } from '../../native/index.ts';
import type { ByteSource } from '../byte-source.ts';
import { validateImage } from '../image-validate.ts';
import { CONSTANTS } from '../layout.ts';
import { locatorAt, type RegionHeader } from '../region-format.ts';
import type { CheckCode, FindingList } from './findings.ts';

/** The front as a plain v8 image: without our locator and without the bit that keeps kernels away. */
export function frontSource(mapping: Mapping, { geometry }: RegionHeader): ByteSource {
  const size = geometry.registryOffset;
  const read = (offset: number, length: number): Buffer => {
    if (offset < 0 || length < 0 || length > size - offset) throw new RangeError('outside the front of the region');
    const bytes = mapping.read(offset, length);
    if (offset === 0 && length >= CONSTANTS.blockBytes.value) {
      bytes.writeUInt32LE((bytes.readUInt32LE(4) & ~CONSTANTS.privateFrontBit.value) >>> 0, 4);
      bytes.fill(0, locatorAt, CONSTANTS.blockBytes.value);
    }
    return bytes;
  };
  return { size, read };
}

/** A broken rule of the front, with the byte of the region where it broke. */
export interface FrontFinding {
  code: Extract<CheckCode, 'FRONT_OVERLAY' | 'FRONT_SLOT'>;
  offset: number;
  message: string;
}

/** Rules of the superblock that `checkAnchors` reports as differences already. */
const isSuperblock = (offset: number) => offset < CONSTANTS.blockBytes.value;

export function checkFront(mapping: Mapping, header: RegionHeader, found: FindingList): void {
  const { findings } = validateImage(frontSource(mapping, header));
  for (const { rule, offset, detail } of findings) {
    if (isSuperblock(offset)) continue;
    const struct = offset < header.geometry.overlayOffset + header.geometry.overlayBytes ? 'overlay' : 'page_cache';
    found.add('FRONT_FORMAT', { struct, index: 0, offset }, `${rule}: ${detail}.`, detail);
  }
}
