/** Images of published contents: the format's rules, the manifest, and on request the digest of every file. */
import type { Mapping } from '../../native/index.ts';
import { mappingSource } from '../byte-source.ts';
import { contentFiles, type FilePlace } from '../content-files.ts';
import type { ContentImage } from '../content-row.ts';
import { validateImage } from '../image-validate.ts';
import { CONSTANTS } from '../layout.ts';
import type { RegionHeader } from '../region-format.ts';
import { type CheckCode, FindingList, type Seen } from './findings.ts';
import { type ContentEntry, isFollowable, type Tables } from './tables.ts';

/** What a manifest says, as far as rows and images can be compared with it. */
export interface ManifestFacts {
  /** `digest`: XXH3-128, 32 hex digits. */
  files: readonly { path: string; size: number; digest: string }[];
  /** Digest of the content, 64 hex digits. */
  contentDigest: string;
  tensorCount: number;
  /** Number of the format, as in content rows. */
  format: number;
}

/** How manifests are read; this layer does not know. */
export interface ManifestReader {
  /** Path of the manifest in the first image. */
  path: string;
  /** Throws an error with a sentence for one that is too large to be read. */
  checkSize(bytes: number): void;
  /** Throws an error with a sentence for bytes that are no manifest. */
  decode(bytes: Buffer): Promise<ManifestFacts>;
}

export interface ImageCheckOptions {
  manifest?: ManifestReader | undefined;
  /** Compares the bytes of every file with the manifest: reads everything. */
  digests?: boolean | undefined;
  /** Bytes looked at so far, of all that will be. */
  onProgress?: ((done: number, total: number) => void) | undefined;
}

const listedPerImage = 20;

/** The part of a region in which images lie. */
export function chunkArea(mapping: Mapping, { geometry }: RegionHeader) {
  const chunkOffset = (index: number) => geometry.chunksOffset + index * CONSTANTS.chunkBytes.value;
  return { mapping, chunkOffset };
}

type Area = ReturnType<typeof chunkArea>;

class ContentCheck {
  readonly found = new FindingList();
  readonly #area: Area;
  readonly #entry: ContentEntry;

  constructor(area: Area, entry: ContentEntry) {
    this.#area = area;
    this.#entry = entry;
  }

  /** Findings about this content; none when its use of the row ended meanwhile. */
  async run(options: ImageCheckOptions, addBytes: (bytes: number) => void): Promise<readonly Seen[]> {
    const sound = this.#entry.content.images.map((image) => this.#image(image)).every(Boolean);
    if (sound && options.manifest) await this.#manifest(options.manifest, options.digests ?? false, addBytes);
    return this.#stillThere() ? this.found.list : [];
  }

  /** Published bytes never change while generation and state stay. */
  #stillThere(): boolean {
    const { offset, word } = this.#entry;
    const mask = ((1n << 15n) - 1n) << 8n;
    return (this.#area.mapping.load64(offset) & ~mask) === (word & ~mask);
  }

  #add(code: CheckCode, offset: number, message: string): void {
    this.found.add(code, { struct: 'image', index: this.#entry.index, offset }, message, message);
  }

  #image({ firstChunk, bytes }: ContentImage): boolean {
    const start = this.#area.chunkOffset(firstChunk);
    const source = mappingSource(this.#area.mapping, start, bytes);
    const { findings, ok } = validateImage(source, { findingsMax: listedPerImage });
    for (const { rule, offset, detail } of findings)
      this.#add(
        'IMAGE_FORMAT',
        start + offset,
        `Content ${this.#entry.index}, image at chunk ${firstChunk}: ${rule}, ${detail}.`,
      );
    if (!ok) return false;
    const total = source.read(16, 8).readBigUInt64LE(0);
    if (total === BigInt(bytes)) return true;
    this.#add(
      'IMAGE_SIZE',
      start + 16,
      `The image at chunk ${firstChunk} says ${total} bytes, its content row ${bytes}.`,
    );
    return false;
  }

  async #manifest(reader: ManifestReader, digests: boolean, addBytes: (bytes: number) => void): Promise<void> {
    const { content, index } = this.#entry;
    const start = this.#area.chunkOffset(content.images[0]?.firstChunk ?? 0);
    const places = contentFiles(this.#area, content);
    const place = places.get(reader.path);
    if (!place) {
      this.#add('MANIFEST_MISSING', start, `Content ${index} has no ${reader.path}.`);
      return;
    }
    let facts: ManifestFacts;
    try {
      reader.checkSize(place.size);
      facts = await reader.decode(this.#area.mapping.read(place.offset, place.size));
    } catch (error) {
      this.#add('MANIFEST_FORMAT', place.offset, `Content ${index}: ${(error as Error).message}`);
      return;
    }
    places.delete(reader.path);
    this.#row(facts, place.offset);
    this.#files(facts, places, place.offset);
    if (digests) for (const file of facts.files) await this.#digest(file, places.get(file.path), addBytes);
  }

  #row({ files, contentDigest, tensorCount, format }: ManifestFacts, offset: number): void {
    const { content, index } = this.#entry;
    const bytes = files.reduce((sum, { size }) => sum + size, 0);
    const pairs = [
      ['digest', content.digest, contentDigest],
      ['bytes', content.bytes, bytes],
      ['file_count', content.fileCount, files.length],
      ['tensor_count', content.tensorCount, tensorCount],
      ['format', content.format, format],
    ] as const;
    for (const [name, inRow, inManifest] of pairs) {
      if (inRow === inManifest) continue;
      this.#add(
        'MANIFEST_ROW',
        offset,
        `Content ${index}: ${name} is ${inRow} in its row, ${inManifest} in its manifest.`,
      );
    }
  }

  #files({ files }: ManifestFacts, places: ReadonlyMap<string, FilePlace>, offset: number): void {
    const { content, index } = this.#entry;
    const wrong = (path: string, what: string) =>
      this.#add('MANIFEST_FILES', offset, `Content ${index}: ${JSON.stringify(path)} ${what}.`);
    const listed = new Set(files.map(({ path }) => path));
    for (const path of places.keys()) if (!listed.has(path)) wrong(path, 'is not in the manifest');
    for (const { path, size } of files) {
      const place = places.get(path);
      if (place === undefined && content.placement === 'resident') wrong(path, 'is in no image');
      if (place && place.size !== size) wrong(path, `has ${place.size} bytes, the manifest says ${size}`);
    }
  }

  async #digest(
    { path, digest }: ManifestFacts['files'][number],
    place: FilePlace | undefined,
    addBytes: (bytes: number) => void,
  ): Promise<void> {
    if (!place) return;
    const found = (await this.#area.mapping.digest(place.offset, place.size)).toString('hex');
    addBytes(place.size);
    if (found === digest) return;
    const what = `Content ${this.#entry.index}: the bytes of ${JSON.stringify(path)} have digest ${found}, the manifest says ${digest}.`;
    this.#add('FILE_DIGEST', place.offset, what);
  }
}

/** Checks one content alone. */
export function checkContentImages(
  area: Area,
  entry: ContentEntry,
  options: ImageCheckOptions,
  addBytes: (bytes: number) => void = () => undefined,
): Promise<readonly Seen[]> {
  return new ContentCheck(area, entry).run(options, addBytes);
}

/** Checks the images of every content whose row can be followed. */
export async function checkImages(
  area: Area,
  tables: Tables,
  options: ImageCheckOptions,
): Promise<{ images: number; findings: Seen[] }> {
  const entries = [...tables.contents.values()].filter(isFollowable);
  const total = options.digests ? entries.reduce((sum, { content }) => sum + content.bytes, 0) : entries.length;
  let done = 0;
  const add = (more: number) => {
    done += more;
    options.onProgress?.(done, total);
  };
  const findings: Seen[] = [];
  for (const entry of entries) {
    findings.push(...(await checkContentImages(area, entry, options, (bytes) => add(bytes))));
    if (!options.digests) add(1);
  }
  return { images: entries.reduce((sum, { content }) => sum + content.images.length, 0), findings };
}
