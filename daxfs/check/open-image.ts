/** Opening an image with an overlay or a page cache to check or to repair it. */
import { closeSync } from 'node:fs';
import { type Mapping, native } from '../../native/index.ts';
import { type Backing, type BackingRequest, openBacking } from '../backing.ts';
import { decode } from '../codec.ts';
import type { Superblock } from '../image.ts';
import { superblock } from '../layout.ts';
import { classifyFront } from '../region-format.ts';
import { lockForRepair, lockInUse, releaseLocks } from '../region-locks.ts';
import { roundDown } from '../units.ts';
import { findHeader } from './anchors.ts';

export interface OpenedImage {
  backing: Backing;
  mapping: Mapping;
  head: Superblock;
  /** No other process may have it open. */
  isExclusive: boolean;
  close(): void;
}

/** Null when it is no image with an overlay or page cache; a region whose locator is damaged looks like one. */
function headOf(mapping: Mapping): Superblock | null {
  const block = mapping.read(0, superblock.size);
  const head = decode(superblock, block);
  const hasFront = head.overlay_offset !== 0n || head.pcache_offset !== 0n;
  return classifyFront(block) === 'image' && hasFront && findHeader(mapping) === null ? head : null;
}

function mapImage({ fd, kind, sizeBytes, mapAlignment }: Backing, write: boolean): Mapping | null {
  const bytes = kind === 'file' ? sizeBytes : roundDown(sizeBytes, mapAlignment);
  return bytes < superblock.size ? null : new native.Mapping(fd, 0, bytes, { write });
}

/**
 * Null when it is no image: then it is to be opened as a region, or refused as none.
 * @throws DaxfsError DAXFS_IN_USE (repair), DAXFS_CREATING
 */
export function openImage(request: BackingRequest, repair: boolean): OpenedImage | null {
  const backing = openBacking(request, { write: repair, create: false });
  let mapping: Mapping | null = null;
  try {
    mapping = mapImage(backing, repair);
    const head = mapping && headOf(mapping);
    if (mapping && head) {
      const name = request.path ?? `fd:${request.fd}`;
      if (repair) lockForRepair(backing.fd, name);
      else lockInUse(backing.fd, name);
      return opened(backing, mapping, head, repair);
    }
  } catch (error) {
    close(backing, mapping);
    throw error;
  }
  close(backing, mapping);
  return null;
}

function close({ fd }: Backing, mapping: Mapping | null): void {
  releaseLocks(fd);
  mapping?.close();
  closeSync(fd);
}

function opened(backing: Backing, mapping: Mapping, head: Superblock, isExclusive: boolean): OpenedImage {
  return { backing, mapping, head, isExclusive, close: () => close(backing, mapping) };
}
