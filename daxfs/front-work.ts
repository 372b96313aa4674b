/** Who is at work on a front while it is checked: what is half done by somebody who runs is no finding. */

/** Of a host: `gone` it died or never was. */
export type HostLife = 'live' | 'gone';

export interface FrontWork {
  /** Nobody is at work: what is half done was left so. */
  isQuiet: boolean;
  /** Intent rows in which an operation runs; null: there are no rows. */
  rows: ReadonlySet<number> | null;
  /** Pool offsets of entries that running operations name. */
  entries: ReadonlySet<number>;
  /** @param generation null: any */
  host(index: number, generation: number | null): HostLife;
}

/** Of a front about which nothing is known. */
export const unknownWork: FrontWork = { isQuiet: false, rows: null, entries: new Set(), host: () => 'live' };

/** Of a front that this process has to itself, without a registry beside it. */
export const noWork: FrontWork = { isQuiet: true, rows: null, entries: new Set(), host: () => 'gone' };

/** True while an operation runs in the row, as far as anybody can tell. */
export const isRunning = ({ rows, isQuiet }: FrontWork, row: number): boolean =>
  rows === null ? !isQuiet : rows.has(row);
