/**
 * The rules of a DAXFS v8 image. `upstream` is the number of the check in the format's own `validate` option (0: checked
 * at every mount); rules without a number are stricter: a kernel would mount the image, but it is damaged or hostile.
 */
export const IMAGE_RULES = {
  SUPER_TRUNCATED: { upstream: 0, title: 'shorter than a superblock' },
  SUPER_MAGIC: { upstream: 0, title: 'wrong magic number' },
  SUPER_VERSION: { upstream: 0, title: 'version is not 8' },
  SUPER_BLOCK_SIZE: { upstream: 0, title: 'block size is not a page size' },
  BASE_RANGE: { upstream: 1, title: 'base image ends behind the mapped bytes' },
  OVERLAY_RANGE: { upstream: 2, title: 'overlay ends behind the mapped bytes' },
  OVERLAY_BUCKET_COUNT: { upstream: 3, title: 'bucket count is not a power of two' },
  OVERLAY_SIZE: { upstream: 4, title: 'overlay too small for its buckets' },
  PCACHE_RANGE: { upstream: 5, title: 'page cache ends behind the mapped bytes' },
  PCACHE_SLOT_POWER: { upstream: 6, title: 'slot count is not a power of two' },
  PCACHE_SLOT_MIN: { upstream: 7, title: 'fewer than 8 slots' },
  PCACHE_SIZE: { upstream: 8, title: 'page cache too small for its slots' },
  REGION_OVERLAP: { upstream: 9, title: 'regions overlap' },
  INODE_COUNT: { upstream: 10, title: 'no inodes' },
  INODE_TABLE_RANGE: { upstream: 11, title: 'inode table ends behind the base image' },
  ROOT_INODE: { upstream: 12, title: 'root is not a directory of the table' },
  INODE_TYPE: { upstream: 13, title: 'inode is not a file, directory or link' },
  DATA_RANGE: { upstream: 14, title: 'data ends behind the base image' },
  DATA_PAGE: { upstream: 14, title: 'backing file page has no page-cache tag' },
  DIRECTORY_SIZE: { upstream: 15, title: 'directory size is not a multiple of 271' },
  DIRENT_INO: { upstream: 16, title: 'name points to no inode' },
  DIRENT_NAME_LENGTH: { upstream: 16, title: 'name length is not 1 to 255' },
  DIRENT_NAME: { upstream: 16, title: 'name holds a slash or is "." or ".."' },

  SUPER_RESERVED: { upstream: null, title: 'reserved bytes of the superblock are not zero' },
  TOTAL_SIZE: { upstream: null, title: 'total size is not the end of the last region' },
  REGION_ALIGNMENT: { upstream: null, title: 'region does not start on a block' },
  ABSENT_REGION: { upstream: null, title: 'fields of an absent region are not zero' },
  DATA_OFFSET: { upstream: null, title: 'data offset is not behind the inode table' },
  COUNT_SHIFT: { upstream: null, title: 'shift is not the logarithm of its count' },
  OVERLAY_HEADER: { upstream: null, title: 'overlay header is wrong' },
  PCACHE_HEADER: { upstream: null, title: 'page cache header is wrong' },
  INODE_NUMBER: { upstream: null, title: 'inode number is not its index + 1' },
  INODE_RESERVED: { upstream: null, title: 'reserved bytes of an inode are not zero' },
  INODE_NLINK: { upstream: null, title: 'link count is too small' },
  INODE_UNREACHABLE: { upstream: null, title: 'no name leads to the inode' },
  INODE_MODE: { upstream: null, title: 'mode has unknown bits' },
  DATA_ALIGNMENT: { upstream: null, title: 'data does not start on a block' },
  DATA_OVERLAP: { upstream: null, title: 'data of two inodes overlap' },
  EMPTY_DATA: { upstream: null, title: 'empty inode points outside the base image' },
  SYMLINK_LENGTH: { upstream: null, title: 'link target is empty or longer than 4095 bytes' },
  SYMLINK_NUL: { upstream: null, title: 'link target does not end with its only NUL' },
  DIRENT_NUL: { upstream: null, title: 'name holds a NUL' },
  DIRENT_MODE: { upstream: null, title: 'mode of the name is not the mode of the inode' },
  DIRENT_RESERVED: { upstream: null, title: 'reserved bytes of a name are not zero' },
  DIRENT_DUPLICATE: { upstream: null, title: 'name is twice in its directory' },
  DIRENT_TRUNCATED: { upstream: null, title: 'entry ends behind the base image' },
  DIRECTORY_TWICE: { upstream: null, title: 'directory has two names or contains itself' },
} as const satisfies Record<string, { upstream: number | null; title: string }>;

export type ImageRule = keyof typeof IMAGE_RULES;

export interface Finding {
  rule: ImageRule;
  /** Byte of the image at which the rule broke. */
  offset: number;
  /** What was found, for people. */
  detail: string;
  /** The kernel's own validation refuses it too. */
  upstream: boolean;
}

/** Collects findings up to a limit and counts the rest. */
export class Findings {
  readonly list: Finding[] = [];
  total = 0;
  upstream = 0;
  readonly #max: number;
  constructor(max: number) {
    this.#max = max;
  }

  add(rule: ImageRule, offset: number, detail: string): void {
    const upstream = IMAGE_RULES[rule].upstream !== null;
    this.total++;
    if (upstream) this.upstream++;
    if (this.list.length < this.#max) this.list.push({ rule, offset, detail, upstream });
  }

  /** Adds a finding unless `ok`; returns `ok`. */
  expect(ok: boolean, rule: ImageRule, offset: number, detail: string): boolean {
    if (!ok) this.add(rule, offset, detail);
    return ok;
  }
}
