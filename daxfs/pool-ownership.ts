/** Who owns which bytes of an overlay's pool: each byte belongs to one thing at most. */
import type { FrontFindings } from './front-rules.ts';

interface Piece {
  offset: number;
  length: number;
  owner: string;
}

export class PoolOwnership {
  readonly #pieces: Piece[] = [];

  add(offset: number, length: number, owner: string): void {
    this.#pieces.push({ offset, length, owner });
  }

  /**
   * Adds what overlaps, and what lies behind `allocated`.
   * @param poolAt start of the pool in the source
   * @returns bytes that something owns; the rest of `allocated` are gaps of alignment, and what is left behind on purpose
   */
  check(findings: FrontFindings, poolAt: number, allocated: bigint): number {
    const pieces = this.#pieces.sort((a, b) => a.offset - b.offset || a.length - b.length);
    let owned = 0;
    let last: Piece = { offset: 0, length: 0, owner: '' };
    for (const piece of pieces) {
      const { offset, length, owner } = piece;
      const end = offset + length;
      const lastEnd = last.offset + last.length;
      findings.expect(offset >= lastEnd, 'POOL_OVERLAP', poolAt + offset, `${owner} and ${last.owner}`);
      findings.expect(
        BigInt(end) <= allocated,
        'POOL_BEYOND',
        poolAt + offset,
        `${owner} ends at ${end} of ${allocated}`,
      );
      owned += Math.max(0, end - Math.max(offset, lastEnd));
      if (end > lastEnd) last = piece;
    }
    return owned;
  }
}
