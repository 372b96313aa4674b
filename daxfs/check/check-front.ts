/** The front of a region: its headers by the rules of the format, then what overlay and page cache hold. */
import type { Mapping } from '../../native/index.ts';
import type { ByteSource } from '../byte-source.ts';
import { validateFront } from '../front-validate.ts';
import { validateImage } from '../image-validate.ts';
import { CONSTANTS } from '../layout.ts';
import { encodeSuperblock, locatorAt, type RegionHeader } from '../region-format.ts';
import type { FindingList } from './findings.ts';

const blockBytes = CONSTANTS.blockBytes.value;
/** What a finding was seen on: the bytes around the place where the rule broke. */
const evidenceBytes = 32;

/** The superblock as it has to be, of a plain v8 image without our locator: damage of the real one is found elsewhere. */
function plainSuperblock(header: RegionHeader): Buffer {
  const block = encodeSuperblock(header);
  block.writeUInt32LE(CONSTANTS.superblockMagic.value, 0);
  block.writeUInt32LE(CONSTANTS.superblockVersion.value, 4);
  return block.fill(0, locatorAt, blockBytes);
}

/** The front as a plain v8 image. */
function frontSource(mapping: Mapping, header: RegionHeader): ByteSource {
  const size = header.geometry.registryOffset;
  const block = plainSuperblock(header);
  const read = (offset: number, length: number): Buffer => {
    if (offset < 0 || length < 0 || length > size - offset) throw new RangeError('outside the front of the region');
    const bytes = mapping.read(offset, length);
    if (offset < blockBytes) block.subarray(offset, offset + length).copy(bytes);
    return bytes;
  };
  return { size, read };
}

/**
 * Adds what is wrong with the front.
 * @param unsettled operations of dead hosts are still to be finished: half done, they look like damage
 */
export function checkFront(mapping: Mapping, header: RegionHeader, unsettled: boolean, found: FindingList): void {
  const { overlayOffset, overlayBytes, registryOffset } = header.geometry;
  const source = frontSource(mapping, header);
  const whereOf = (offset: number) => ({
    struct: offset < overlayOffset + overlayBytes ? ('overlay' as const) : ('page_cache' as const),
    index: 0,
    offset,
  });
  for (const { rule, offset, detail } of validateImage(source).findings)
    found.add('FRONT_FORMAT', whereOf(offset), `${rule}: ${detail}.`, detail);
  const { findings } = validateFront(source, { kind: header.kernelMountable ? 'kernel' : 'private' });
  for (const { rule, offset, detail } of findings) {
    const where = whereOf(offset);
    const code = unsettled ? 'FRONT_UNSETTLED' : where.struct === 'overlay' ? 'FRONT_OVERLAY' : 'FRONT_SLOT';
    const at = Math.min(offset, registryOffset);
    const seen = mapping.read(at, Math.min(evidenceBytes, registryOffset - at)).toString('hex');
    found.add(code, where, `${rule}: ${detail}`, `${rule} ${detail} ${seen}`);
  }
}
