/** Checks what overlay and page cache of an image or a region's front hold. */
import { BaseTree } from './base-tree.ts';
import type { ByteSource } from './byte-source.ts';
import { DaxfsError } from './errors.ts';
import { type FrontFinding, FrontFindings, type FrontRule } from './front-rules.ts';
import { type FrontWork, unknownWork } from './front-work.ts';
import { Image, type Superblock } from './image.ts';
import { CONSTANTS } from './layout.ts';
import type { FrontKind } from './overlay-key.ts';
import { OverlayReader, readSuperblock } from './overlay-read.ts';
import { frontKind } from './overlay-table.ts';
import { checkOverlay } from './overlay-validate.ts';
import { PageCacheReader } from './page-cache-read.ts';
import { checkPageCache } from './page-cache-validate.ts';

export interface FrontCheckOptions {
  /** Default: what the version in the superblock says. */
  kind?: FrontKind;
  /** Findings listed, default 100. */
  findingsMax?: number;
  /** Who is at work; default: nobody knows, and what a crash may leave is not looked for. */
  work?: FrontWork;
}

export interface FrontReport {
  /** No rule is broken, and nothing was left. */
  ok: boolean;
  findings: FrontFinding[];
  /** All findings, listed or not. */
  total: number;
  /**
   * Bytes of the pool: handed out, and of these owned by something. The others are gaps of alignment, replaced entries
   * and what a crash left, which a kernel-mountable front never gives back. `end`: behind the last thing.
   */
  pool: { allocated: number; owned: number; end: number } | null;
}

function caught<T>(findings: FrontFindings, rule: FrontRule, body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    if (!(error instanceof DaxfsError)) throw error;
    findings.add(rule, error.offset ?? 0, error.message);
    return undefined;
  }
}

/** The base image; one that is damaged is the image check's business. */
export function openBase(source: ByteSource, head: Superblock): Image | undefined {
  try {
    return head.base_offset === 0n ? undefined : new Image(source);
  } catch (error) {
    if (!(error instanceof DaxfsError)) throw error;
    return undefined;
  }
}

/**
 * Checks the contents of a front; `validateImage` checks its headers. Nobody must change it meanwhile: on a live one
 * findings may be operations that are not finished. Never throws for what the bytes say.
 */
export function validateFront(source: ByteSource, options: FrontCheckOptions = {}): FrontReport {
  const findings = new FrontFindings(options.findingsMax ?? 100);
  const found = caught(findings, 'OVERLAY_PLACE', () => readSuperblock(source));
  if (!found) return { ok: false, findings: findings.list, total: findings.total, pool: null };
  const kind = options.kind ?? frontKind(found.version);
  const bit = CONSTANTS.privateFrontBit.value;
  const head = { ...found, version: kind === 'private' ? found.version | bit : found.version & ~bit };
  const image = openBase(source, head);
  const work = options.work ?? unknownWork;
  const pool = head.overlay_offset === 0n ? null : overlayPart(source, head, image, work, findings);
  if (head.pcache_offset !== 0n) {
    caught(findings, 'PCACHE_PLACE', () => checkPageCache(new PageCacheReader(source, head), image, work, findings));
  }
  return { ok: findings.total === 0, findings: findings.list, total: findings.total, pool };
}

function overlayPart(
  source: ByteSource,
  head: Superblock,
  image: Image | undefined,
  work: FrontWork,
  findings: FrontFindings,
) {
  const overlay = caught(findings, 'OVERLAY_PLACE', () => new OverlayReader(source, head));
  if (!overlay) return null;
  const base = new BaseTree(image, head.root_inode, head.block_size);
  overlay.prepareForAll(base.inodeCount);
  const { owned, end } = checkOverlay({ overlay, base, work, findings });
  return { allocated: Number(overlay.place.header.pool_alloc), owned, end };
}
