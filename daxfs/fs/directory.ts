/** What `opendir` gives. */
import type { RegionDirent } from './stats.ts';

/** As fs.Dir. */
export class RegionDir implements AsyncIterable<RegionDirent>, AsyncDisposable {
  readonly path: string;
  readonly #left: RegionDirent[];

  constructor(path: string, entries: readonly RegionDirent[]) {
    this.path = path;
    this.#left = entries.toReversed();
  }

  /** The next entry; null at the end. */
  async read(): Promise<RegionDirent | null> {
    return this.readSync();
  }

  readSync(): RegionDirent | null {
    return this.#left.pop() ?? null;
  }

  async close(): Promise<void> {
    this.#left.length = 0;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RegionDirent> {
    for (let entry = this.readSync(); entry; entry = this.readSync()) yield entry;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
