/** Repair of what a front holds: rule after rule until nothing is left that can be mended without guessing. */
import type { Mapping } from '../../native/index.ts';
import { BaseTree } from '../base-tree.ts';
import type { ByteSource } from '../byte-source.ts';
import { DaxfsError } from '../errors.ts';
import type { FrontFinding, FrontRule } from '../front-rules.ts';
import { openBase, validateFront } from '../front-validate.ts';
import type { FrontWork } from '../front-work.ts';
import type { Superblock } from '../image.ts';
import { CONSTANTS } from '../layout.ts';
import type { FrontKind } from '../overlay-key.ts';
import { OverlayReader, readSuperblock } from '../overlay-read.ts';
import { PageCacheReader } from '../page-cache-read.ts';
import { roundUp } from '../units.ts';
import { OverlayEditor } from './overlay-editor.ts';
import { OverlayRepair } from './repair-overlay.ts';
import { PageCacheRepair } from './repair-page-cache.ts';

/** A front that this process has to itself. */
export interface RepairedFront {
  /** Of all its bytes, for writing. */
  mapping: Mapping;
  /** The same bytes as a plain v8 image. */
  source: ByteSource;
  kind: FrontKind;
  work: FrontWork;
  /** True of a host that is silent, but nobody proved dead. */
  mayLive(host: number): boolean;
  /** Finishes the truncation of a file, as every reader does. */
  settle(ino: number): void;
  step(text: string): void;
}

type Mend = (finding: FrontFinding) => string | undefined;

/** Findings of one look; a rule with more is looked at again. */
const findingsMax = 10_000;
/** Looks; each but the last has mended something. */
const looksMax = 2000;

function headOf(source: ByteSource, kind: FrontKind): Superblock {
  const head = readSuperblock(source);
  const bit = CONSTANTS.privateFrontBit.value;
  return { ...head, version: kind === 'private' ? head.version | bit : head.version & ~bit };
}

/** Nothing where superblock and header do not let it be opened: that is told. */
function opened<T>(open: () => T): T | undefined {
  try {
    return open();
  } catch (error) {
    if (!(error instanceof DaxfsError)) throw error;
    return undefined;
  }
}

function mendsOf({ mapping, source, kind, mayLive, settle }: RepairedFront): [FrontRule, Mend][] {
  const head = headOf(source, kind);
  const overlay = head.overlay_offset === 0n ? undefined : opened(() => new OverlayReader(source, head));
  const cache = head.pcache_offset === 0n ? undefined : opened(() => new PageCacheReader(source, head));
  const base = new BaseTree(openBase(source, head), head.root_inode, head.block_size);
  const ofOverlay = overlay && new OverlayRepair(new OverlayEditor(mapping, overlay), base, settle).mends;
  const ofCache = cache && new PageCacheRepair(mapping, cache, mayLive).mends;
  return [...(ofOverlay ?? []), ...(ofCache ?? [])];
}

/** Rules of which mending one finding may move, or take away, what the next one points at. */
const ONE_AT_A_TIME = /^(BUCKET|FREE|LIST|NAME_(CHAIN|TWICE|UNLINKED))/;
/** A finding that comes back after it was mended so often is left alone. */
const triesMax = 2;

class FrontRepair {
  readonly #front: RepairedFront;
  readonly #mends: readonly [FrontRule, Mend][];
  /** How often a finding was given to its mend. */
  readonly #tries = new Map<string, number>();

  constructor(front: RepairedFront) {
    this.#front = front;
    this.#mends = mendsOf(front);
  }

  /** One look. @returns false: nothing is left to mend */
  look(): boolean {
    const { source, kind, work } = this.#front;
    const { findings } = validateFront(source, { kind, work, findingsMax });
    return this.#mends.some(([rule, mend]) => this.#all(rule, findings, mend));
  }

  #all(rule: FrontRule, findings: readonly FrontFinding[], mend: Mend): boolean {
    const isOne = ONE_AT_A_TIME.test(rule);
    let done = 0;
    for (const finding of findings) {
      if (finding.rule !== rule || this.#isStuck(finding)) continue;
      const said = mend(finding);
      if (said === undefined) continue;
      this.#front.step(`FRONT_${rule}: ${said}`);
      done++;
      if (isOne) break;
    }
    return done > 0;
  }

  #isStuck({ rule, offset, detail }: FrontFinding): boolean {
    const key = `${rule} ${offset} ${detail}`;
    const tries = (this.#tries.get(key) ?? 0) + 1;
    this.#tries.set(key, tries);
    return tries > triesMax;
  }
}

/** A bump pointer behind the pool: behind the last thing, or, where something is damaged, at the end. */
function mendBumpPointer({ mapping, source, kind, work, step }: RepairedFront): void {
  const head = headOf(source, kind);
  const overlay = head.overlay_offset === 0n ? undefined : opened(() => new OverlayReader(source, head));
  if (!overlay || overlay.place.header.pool_alloc <= BigInt(overlay.place.poolBytes)) return;
  const { pool, findings } = validateFront(source, { kind, work, findingsMax: 1 });
  const end = findings.length === 0 ? roundUp(pool?.end ?? 0, 16) : overlay.place.poolBytes;
  new OverlayEditor(mapping, overlay).setHeader('pool_alloc', BigInt(end));
  step(`pool_alloc set to ${end}`);
}

/** Mends all that can be; findings that stay are told by the next check. REQUIRES: nobody else is at work on the front. */
export function mendFront(front: RepairedFront): void {
  const repair = new FrontRepair(front);
  const mendAll = () => {
    for (let looks = 0; looks < looksMax && repair.look(); looks++);
  };
  mendAll();
  // What the pool holds is known best when all else is mended; then what lies behind it is free.
  mendBumpPointer(front);
  mendAll();
}
