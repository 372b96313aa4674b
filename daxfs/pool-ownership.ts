/** Who owns which bytes of an overlay's pool: each byte belongs to one thing. */
import type { FreeListField, FrontFindings } from './front-rules.ts';

export interface Piece {
  offset: number;
  length: number;
  /** For people. */
  owner: string;
  /** Of a member of a free list. */
  field?: FreeListField | undefined;
  /** The word that leads here. */
  evidence: string;
}

/** Bytes [from, to) below the bump pointer that nothing owns. */
export interface Gap {
  from: number;
  to: number;
  /** At a block's begin: what lies before it may have been skipped to align a page. */
  endsAtPage: boolean;
}

export interface PoolUse {
  owned: number;
  /** Behind the last thing. */
  end: number;
  gaps: Gap[];
}

export class PoolOwnership {
  readonly #pieces: Piece[] = [];

  add(piece: Piece): void {
    this.#pieces.push(piece);
  }

  /**
   * Adds what overlaps, and what lies behind `allocated`.
   * @param poolAt start of the pool in the source
   */
  check(findings: FrontFindings, poolAt: number, allocated: bigint, blockBytes: number): PoolUse {
    const pieces = this.#pieces.sort((a, b) => a.offset - b.offset || a.length - b.length);
    const gaps: Gap[] = [];
    let owned = 0;
    let last: Piece = { offset: 0, length: 0, owner: '', evidence: '' };
    for (const piece of pieces) {
      const { offset, length, owner } = piece;
      const end = offset + length;
      const lastEnd = last.offset + last.length;
      if (offset < lastEnd) this.#overlap(findings, poolAt, piece, last);
      else if (offset > lastEnd) gaps.push({ from: lastEnd, to: offset, endsAtPage: offset % blockBytes === 0 });
      const detail = `${owner} ends at ${end} of ${allocated}`;
      const ok = BigInt(end) <= allocated;
      findings.expect(ok, 'POOL_BEYOND', poolAt + offset, detail, { entry: offset, to: end }, piece.evidence);
      owned += Math.max(0, end - Math.max(offset, lastEnd));
      if (end > lastEnd) last = piece;
    }
    const end = last.offset + last.length;
    if (BigInt(end) < allocated) gaps.push({ from: end, to: Number(allocated), endsAtPage: false });
    return { owned, end, gaps };
  }

  #overlap(findings: FrontFindings, poolAt: number, piece: Piece, other: Piece): void {
    const field = piece.field ?? other.field;
    const entry = piece.field === undefined && other.field !== undefined ? other.offset : piece.offset;
    const subject = field === undefined ? { entry } : { entry, field };
    const rule = field === undefined ? 'POOL_OVERLAP' : 'FREE_TWICE';
    const evidence = `${piece.evidence} ${other.evidence}`;
    findings.add(rule, poolAt + piece.offset, `${piece.owner} and ${other.owner}`, subject, evidence);
  }
}
