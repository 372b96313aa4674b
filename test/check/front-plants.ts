/** Damage of overlay contents, one plant per rule and kind of front. */
import { offsetOf } from '../../daxfs/codec.ts';
import type { FrontRule } from '../../daxfs/front-rules.ts';
import { overlayDirent, overlayDirlist } from '../../daxfs/layout.ts';
import { pageKey } from '../../daxfs/overlay-key.ts';
import type { FrontVictim } from './front-copies.ts';

export const KINDS = { private: false, kernel: true } as const;
export type Kind = keyof typeof KINDS;

const NOWHERE = 0xffff_ffff_ffff_ffffn;
const DIRECTORY = 0o040755;

export interface Plant {
  plant: (victim: FrontVictim) => void;
  /** Rules found besides the one planted: what the damage entails. */
  also?: FrontRule[];
  /** Rules that stay after repair. */
  left?: FrontRule[];
  /** Paths that are not as they were, damaged or repaired. */
  lost?: string[];
}

/** Hides a bucket where no search goes: behind a free one, or in a bin too far away. */
function displace(v: FrontVictim, key: bigint): void {
  const from = v.bucketOf(key);
  const { word, value } = v.editor().bucket(from);
  if (!v.isPrivate) {
    v.u64(v.bucketAt(from + 1), word);
    v.u64(v.bucketAt(from + 1) + 8, value);
    v.u64(v.bucketAt(from), 0n);
    return;
  }
  const path = [...v.overlay().table.path(key)];
  const far = path.slice(90).find((index) => v.editor().bucket(index).word === 0n)!;
  v.u64(v.bucketAt(far), word);
  v.u64(v.bucketAt(far) + 8, value);
  v.editor().remove(from);
}

/** A second bucket of a key, where a search would come later. */
function repeat(v: FrontVictim, key: bigint): void {
  const { word, value } = v.editor().bucket(v.bucketOf(key));
  const path = [...v.overlay().table.path(key)];
  const free = path.slice(path.indexOf(v.bucketOf(key)) + 1).find((index) => v.editor().bucket(index).word === 0n)!;
  v.u64(v.bucketAt(free), word);
  v.u64(v.bucketAt(free) + 8, value);
}

export const PLANTS: Record<Kind, Partial<Record<FrontRule, Plant>>> = {
  private: {
    BUCKET_STATE: { plant: (v) => v.state(v.bucketOf(v.pageKey('file', 1)), 3) },
    BUCKET_TENTATIVE: {
      plant: (v) => {
        const key = v.pageKey('file', 700);
        v.editor().insert(key, v.entryOf(v.pageKey('file', 0)));
        v.state(v.bucketOf(key), 1);
      },
    },
    BIN_WORD: {
      plant: (v) => {
        const at = v.bucketAt(15);
        v.u64(at, (1n << 63n) | 0xffff_ffffn);
      },
    },
    BUCKET_UNREACHABLE: {
      plant: (v) => displace(v, v.pageKey('file', 1)),
    },
    INODE_BASE: { plant: (v) => v.setInode('file', 'nlink', 7) },
    INODE_CLOSED: { plant: (v) => v.setInode('d', 'flags', 1 | (5 << 8)) },
    INODE_ORPHAN: {
      plant: (v) => {
        const slot = v.slotKey('small');
        v.drop(v.nameKey('small'));
        v.drop(slot);
      },
      also: ['POOL_LOST'],
      lost: ['small'],
    },
    INODE_TRUNCATING: { plant: (v) => v.setInode('file', 'flags', 2 | (3 << 12)) },
    NAME_CHAIN: { plant: (v) => v.setLink('small', 'next', 16n) },
    NAME_FLAGS: { plant: (v) => v.setName('small', 'flags', 0x10) },
    NAME_CLAIMED: { plant: (v) => v.setName('small', 'flags', 4 | (3 << 8)) },
    NAME_PARENT: {
      plant: (v) => v.drop(v.inodeKey('d')),
      also: ['NAME_CHILD'],
      left: ['NAME_CHILD', 'NAME_PARENT'],
      lost: ['d', 'd/in', 'd/e'],
    },
    DIRECTORY_LOST: {
      plant: (v) => v.drop(v.nameKey('d')),
      left: ['DIRECTORY_LOST'],
      lost: ['d', 'd/in', 'd/e'],
    },
    NAME_UNLISTED: { plant: (v) => v.drop(v.slotKey('small')) },
    SLOT_ENTRY: {
      plant: (v) => v.lead(v.bucketOf(v.slotKey('small')), v.entryOf(v.inodeKey('small'))),
      also: ['NAME_UNLISTED'],
    },
    SLOT_STALE: {
      plant: (v) => v.drop(v.nameKey('small')),
      also: ['INODE_ORPHAN'],
      lost: ['small'],
    },
    PAGE_ORPHAN: {
      plant: (v) => v.drop(v.inodeKey('file')),
      also: ['NAME_CHILD'],
      left: ['NAME_CHILD', 'PAGE_ORPHAN'],
      lost: ['file'],
    },
    PAGE_REMOVED: { plant: (v) => v.editor().insert(pageKey(BigInt(v.ino('last') - 1), 0n), v.take(4096, 4096)) },
    PAGE_BEYOND: { plant: (v) => v.setSize('file', 5000n), lost: ['file'] },
    POOL_LOST: { plant: (v) => v.take(8192 + 320, 16) },
  },
  kernel: {
    BUCKET_UNREACHABLE: {
      plant: (v) => displace(v, v.nameKey('small')),
    },
    INODE_LINKS: { plant: (v) => v.setInode('file', 'nlink', 7) },
    INODE_CLOSED: { plant: (v) => v.setInode('d', 'flags', (5 << 1) | 1) },
    NAME_HASH: {
      plant: (v) => {
        const { entry } = v.name('small');
        v.drop(v.nameKey('small'));
        v.setLink('file', 'next', BigInt(entry));
      },
      left: ['NAME_HASH'],
      lost: ['small'],
    },
    NAME_CHAIN: { plant: (v) => v.setLink('small', 'next', 16n) },
    NAME_TWICE: {
      plant: (v) => {
        const { entry } = v.name('small');
        const copy = v.take(overlayDirent.size, 16);
        v.mapping.write(v.poolAt(copy), v.mapping.read(v.poolAt(entry), overlayDirent.size));
        v.u64(v.poolAt(copy) + offsetOf(overlayDirent, 'dir_next'), v.mapping.load64(v.listFirst('')));
        v.u64(v.listFirst(''), BigInt(copy));
        v.setLink('small', 'next', BigInt(copy));
      },
      also: ['INODE_NAMES'],
      left: ['POOL_SPENT'],
    },
    NAME_CLAIMED: { plant: (v) => v.setName('small', 'flags', (3 + 1) << 1) },
    NAME_PARENT: {
      plant: (v) => v.setInode('d', 'type', 9),
      also: ['BUCKET_ENTRY', 'NAME_CHILD'],
      left: ['BUCKET_ENTRY', 'NAME_CHILD', 'NAME_PARENT'],
      lost: ['d', 'd/in', 'd/e'],
    },
    DIRECTORY_LOST: {
      plant: (v) => v.setName('d', 'flags', 1),
      left: ['DIRECTORY_LOST'],
      lost: ['d', 'd/in', 'd/e'],
    },
    NAME_UNLISTED: {
      plant: (v) => v.u64(v.listFirst('d'), NOWHERE),
    },
    NAME_UNLINKED: { plant: (v) => v.drop(v.nameKey('small')) },
    LIST_HEAD: { plant: (v) => v.u32(v.poolAt(v.entryOf(v.listKey('d'))) + offsetOf(overlayDirlist, 'reserved'), 3) },
    LIST_CHAIN: { plant: (v) => v.setLink('d', 'dir_next', 16n) },
    LIST_PARENT: {
      plant: (v) => v.setLink('d', 'dir_next', BigInt(v.name('d/in').entry)),
      also: ['LIST_TWICE'],
    },
    LIST_TWICE: {
      plant: (v) => v.setLink('d', 'dir_next', BigInt(v.name('d/in').entry)),
      also: ['LIST_PARENT'],
    },
    PAGE_ORPHAN: {
      plant: (v) => v.editor().insert(pageKey(BigInt(v.ino('d')), 0n), v.take(4096, 4096)),
      left: ['PAGE_ORPHAN'],
    },
    POOL_SPENT: { plant: (v) => v.take(8192 + 320, 8), left: ['POOL_SPENT'] },
  },
};

/** The same in both kinds. */
export const COMMON: Partial<Record<FrontRule, Plant>> = {
  BUCKET_WORD: {
    plant: (v) => {
      const at = v.bucketAt(v.bucketOf(v.pageKey('file', 1)));
      v.u64(at, v.mapping.load64(at) & ~1n);
    },
  },
  BUCKET_TWICE: { plant: (v) => repeat(v, v.pageKey('file', 1)), also: ['POOL_OVERLAP'] },
  BUCKET_ENTRY: {
    plant: (v) => v.setInode('small', 'type', 9),
    also: ['NAME_CHILD', 'PAGE_ORPHAN'],
    left: ['BUCKET_ENTRY', 'NAME_CHILD', 'PAGE_ORPHAN'],
    lost: ['small'],
  },
  ROOT_MISSING: {
    plant: (v) => v.setInode('', 'type', 9),
    also: ['BUCKET_ENTRY', 'NAME_PARENT'],
    left: ['BUCKET_ENTRY', 'NAME_PARENT', 'ROOT_MISSING'],
    lost: ['*'],
  },
  INODE_NUMBER_UNUSED: {
    plant: (v) => v.u64(v.headerAt('next_ino'), BigInt(v.ino('last'))),
    also: ['BUCKET_ENTRY'],
  },
  INODE_NUMBER_NEXT: { plant: (v) => v.u64(v.headerAt('next_ino'), 1n << 43n) },
  INODE_FIELDS: { plant: (v) => v.setSize('small', 1n << 60n), left: ['INODE_FIELDS'], lost: ['small'] },
  INODE_FLAGS: { plant: (v) => v.setInode('small', 'flags', 0x10) },
  INODE_NAMES: {
    plant: (v) => v.setLink('small', 'child_ino', BigInt(v.ino('file'))),
    left: ['INODE_NAMES'],
    lost: ['small'],
  },
  NAME_INVALID: {
    plant: (v) => v.flip(v.poolAt(v.name('small').entry) + offsetOf(overlayDirent, 'name') + 5),
    left: ['NAME_INVALID'],
  },
  NAME_CHILD: {
    plant: (v) => v.setLink('small', 'child_ino', 9999n),
    left: ['NAME_CHILD'],
    lost: ['small'],
  },
  NAME_TYPE: { plant: (v) => v.setName('small', 'child_mode', DIRECTORY) },
  FREE_LIST: { plant: (v) => v.u64(v.headerAt('free_data'), 100n), also: [] },
  FREE_TWICE: {
    plant: (v) => v.editor().push('free_data', v.entryOf(v.pageKey('file', 2))),
    lost: ['file'],
  },
  POOL_OVERLAP: {
    plant: (v) => v.lead(v.bucketOf(v.pageKey('file', 1)), v.entryOf(v.pageKey('last', 0))),
    left: ['POOL_OVERLAP'],
    lost: ['file'],
  },
  POOL_POINTER: {
    plant: (v) => v.u64(v.headerAt('pool_alloc'), v.mapping.load64(v.headerAt('pool_alloc')) + 8n),
  },
  POOL_BEYOND: {
    plant: (v) => v.u64(v.headerAt('pool_alloc'), v.mapping.load64(v.headerAt('pool_alloc')) - 16n),
  },
};
