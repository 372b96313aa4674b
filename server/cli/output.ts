/** What the commands print: tables for people, JSON for programs. */

export { formatBytes as bytes } from '../../daxfs/units.ts';

export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? `${minutes} min ${Math.round(seconds % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Size of a terminal; one that has none of its own (docker exec, script) says 0. */
export function screenOf({ rows, columns }: { rows?: number; columns?: number }): { rows: number; columns: number } {
  return { rows: rows || 24, columns: columns || 80 };
}

/** Text out of a file, a region or the network: control characters must not reach the terminal. */
export function printableText(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}

/** Columns as wide as their widest cell; numbers are given as text. */
export function table(head: string[], rows: string[][]): string {
  const cells = [head, ...rows].map((row) => row.map(printableText));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return cells.map(line).join('\n');
}

/** Aligned `key  value` lines. */
export function fields(entries: readonly (readonly [string, string])[]): string {
  const width = Math.max(...entries.map(([key]) => key.length));
  return entries.map(([key, value]) => `${key.padEnd(width)}  ${printableText(value)}`).join('\n');
}

/** Writes either form. */
export function print(json: boolean, value: unknown, text: () => string): void {
  process.stdout.write(`${json ? JSON.stringify(value, null, 2) : text()}\n`);
}
