/** Turns a source into a content of the region: claim, place, copy with digests in one pass, publish. */
import type { ImagePlan, Region, Registry, TreeEntry } from '../daxfs/index.ts';
import { contentFiles, copyIntoRegion, planImage, withParents } from '../daxfs/index.ts';
import type { ContentRef } from '../native/index.ts';
import { copyError } from './copy-errors.ts';
import { type Description, describeSource } from './describe.ts';
import { loaderError } from './errors.ts';
import { FORMATS } from './formats.ts';
import { contentDigest, encodeManifestPaced, MANIFEST_PATH, type Manifest, type ManifestFile } from './manifest.ts';
import type { Source, SourceFile } from './source.ts';

export type IngestPhase = 'scanning' | 'allocating' | 'copying' | 'verifying' | 'publishing';

export interface IngestOptions {
  /** Reads the bytes back from the region and compares digests before publishing. */
  verify: boolean;
  keep: boolean;
  signal: AbortSignal;
  onPhase(phase: IngestPhase): void;
  /** Bytes of file data copied so far. */
  onBytes(done: number): void;
  /** Asked for room when no run of `bytes` is free; true when something was freed. */
  makeRoom(bytes: number): Promise<boolean>;
  /** Bytes that eviction could free, for the error. */
  evictableBytes(): number;
}

export interface Ingested {
  /** `exists`: another claim of the same source, or the same bytes, was there first. */
  outcome: 'loaded' | 'exists';
  ref: ContentRef;
}

const CHUNK_BYTES = 2 * 1024 * 1024;
const DIGEST_PLACEHOLDER = '0'.repeat(32);

/** One image of a content with its place. */
interface PlacedImage {
  plan: ImagePlan;
  firstChunk: number;
  chunkCount: number;
  /** Bytes from the start of the region. */
  offset: number;
}

const chunksFor = (bytes: number) => Math.ceil(bytes / CHUNK_BYTES);
const manifestMode = 0o444;

function fileEntry(file: SourceFile): TreeEntry {
  const { path, size, mtimeNs, ino, mode, origin } = file;
  return { path, type: 'file', mode: mode & 0o7777, uid: 0, gid: 0, size, origin: { path: origin, mtimeNs, ino } };
}

function manifestEntry(bytes: Buffer): TreeEntry {
  const size = bytes.length;
  return { path: MANIFEST_PATH, type: 'file', mode: manifestMode, uid: 0, gid: 0, size, origin: { bytes } };
}

function makeManifest(source: Source, description: Description, digests: ReadonlyMap<string, string>): Manifest {
  const files: ManifestFile[] = source.files.map(({ path, size }) => ({
    path,
    size,
    digest: digests.get(path) ?? DIGEST_PLACEHOLDER,
  }));
  const { format, tensors, metadata } = description;
  return { version: 1, format, source: source.uri, revision: source.revision, files, tensors, metadata };
}

function planFiles(files: readonly SourceFile[], manifest: Buffer | null): ImagePlan {
  const entries = files.map(fileEntry);
  if (manifest) entries.push(manifestEntry(manifest));
  return planImage(withParents(entries), { largeFileAlign: CHUNK_BYTES });
}

/** The largest prefix, by size, of `files` whose image fits `chunks`; empty when not even the smallest does. */
function largestFitting(files: readonly SourceFile[], manifest: Buffer | null, chunks: number): SourceFile[] {
  const picked: SourceFile[] = [];
  let bytes = CHUNK_BYTES + (manifest?.length ?? 0);
  for (const file of files) {
    const need = Math.ceil(file.size / CHUNK_BYTES) * CHUNK_BYTES;
    if (bytes + need > chunks * CHUNK_BYTES) continue;
    picked.push(file);
    bytes += need;
  }
  return picked;
}

/** One load in the region: everything it claims is named by `ref`, so abandoning `ref` undoes it. */
class Ingest {
  readonly #region: Region;
  readonly #registry: Registry;
  readonly #source: Source;
  readonly #options: IngestOptions;
  readonly #ref: ContentRef;
  readonly #startedMs = Date.now();

  constructor(region: Region, registry: Registry, source: Source, options: IngestOptions, ref: ContentRef) {
    this.#region = region;
    this.#registry = registry;
    this.#source = source;
    this.#options = options;
    this.#ref = ref;
  }

  async run(): Promise<Ingested> {
    const { onPhase } = this.#options;
    onPhase('scanning');
    const description = await describeSource(this.#source);
    this.#options.signal.throwIfAborted();
    const placeholder = await this.#encode(description, new Map());
    onPhase('allocating');
    const images = await this.#place(placeholder);
    onPhase('copying');
    const digests = await this.#copy(images);
    const manifest = await this.#encode(description, digests);
    if (manifest.length !== placeholder.length) throw new Error('the manifest changed its length with its digests');
    this.#writeManifest(images, manifest);
    if (this.#options.verify) await this.#verify(images, digests);
    onPhase('publishing');
    const digest = contentDigest(
      this.#source.files.map(({ path, size }) => ({ path, size, digest: digests.get(path)! })),
    );
    const twin = await this.#findTwin(digest, images);
    if (twin) {
      this.#registry.abandon(this.#ref);
      return { outcome: 'exists', ref: twin };
    }
    this.#publish(images, description, digest);
    return { outcome: 'loaded', ref: this.#ref };
  }

  #encode(description: Description, digests: ReadonlyMap<string, string>): Promise<Buffer> {
    return encodeManifestPaced(makeManifest(this.#source, description, digests), this.#options.signal);
  }

  /** Places the content in one image, or in several when no free run is long enough. */
  async #place(manifest: Buffer): Promise<PlacedImage[]> {
    const whole = planFiles(this.#source.files, manifest);
    const single = this.#allocate(whole);
    if (single) return [single];
    while (await this.#options.makeRoom(whole.totalSize)) {
      const retry = this.#allocate(whole);
      if (retry) return [retry];
    }
    return this.#placeSplit(manifest, whole.totalSize);
  }

  #allocate(plan: ImagePlan): PlacedImage | undefined {
    const chunkCount = chunksFor(plan.totalSize);
    const firstChunk = this.#registry.allocateRun(chunkCount, this.#ref);
    if (firstChunk < 0) return undefined;
    return { plan, firstChunk, chunkCount, offset: this.#region.chunkOffset(firstChunk) };
  }

  #placeSplit(manifest: Buffer, wholeBytes: number): PlacedImage[] {
    const images: PlacedImage[] = [];
    let rest = [...this.#source.files].sort((a, b) => b.size - a.size);
    while (rest.length > 0 && images.length < this.#registry.imagesPerContentMax) {
      const head = images.length === 0 ? manifest : null;
      const picked = new Set(largestFitting(rest, head, this.#registry.chunkStats().largestFreeRun));
      if (picked.size === 0) break;
      const image = this.#allocate(planFiles([...picked], head));
      if (!image) continue;
      images.push(image);
      rest = rest.filter((file) => !picked.has(file));
    }
    if (rest.length > 0) throw this.#noRoom(wholeBytes);
    return images;
  }

  #noRoom(bytes: number): Error {
    const stats = this.#registry.chunkStats();
    const extra = {
      neededBytes: bytes,
      freeBytes: stats.free * CHUNK_BYTES,
      largestFreeRunBytes: stats.largestFreeRun * CHUNK_BYTES,
      evictableBytes: this.#options.evictableBytes(),
    };
    const text =
      `The model needs ${bytes} bytes, but the region has ${extra.freeBytes} free (largest run ${extra.largestFreeRunBytes}); ` +
      `remove models (${extra.evictableBytes} bytes could be evicted: serve with --evict), or create a larger region.`;
    return loaderError('INGEST_NO_ROOM', text, { extra });
  }

  async #copy(images: readonly PlacedImage[]): Promise<Map<string, string>> {
    for (const image of images) writeMetadata(this.#region, image);
    const files = images.flatMap(({ plan, offset }) =>
      plan.files.flatMap((file) =>
        'path' in file.origin
          ? [{ ...file.origin, name: file.path, size: file.size, offset: offset + file.offset }]
          : [],
      ),
    );
    const { signal, onBytes } = this.#options;
    const report = (done: number) => {
      onBytes(done);
      this.#registry.setBytesDone(this.#ref, done);
    };
    return copyIntoRegion(this.#region.mapping, files, { signal, onBytes: report }).catch((error: unknown) => {
      throw copyError(error);
    });
  }

  #writeManifest(images: readonly PlacedImage[], bytes: Buffer): void {
    const first = images[0]!;
    const file = first.plan.files.find(({ path }) => path === MANIFEST_PATH);
    if (!file) throw new Error('the image plan lost the manifest');
    this.#region.mapping.write(first.offset + file.offset, bytes);
  }

  async #verify(images: readonly PlacedImage[], digests: ReadonlyMap<string, string>): Promise<void> {
    this.#options.onPhase('verifying');
    for (const { plan, offset } of images) {
      for (const file of plan.files) {
        if (!digests.has(file.path)) continue;
        const found = (await this.#region.mapping.digest(offset + file.offset, file.size)).toString('hex');
        if (found === digests.get(file.path)) continue;
        throw loaderError(
          'INGEST_VERIFY_FAILED',
          `${file.path} reads back differently from the region; check the memory.`,
        );
      }
    }
  }

  /** A ready content with the same digest and, compared byte for byte, the same files. */
  async #findTwin(digest: string, images: readonly PlacedImage[]): Promise<ContentRef | undefined> {
    for (const content of this.#registry.contents()) {
      if (content.digest !== digest || content.state !== 'ready' || content.index === this.#ref.index) continue;
      const ref = { index: content.index, generation: content.generation };
      if (await this.#sameBytes(ref, images)) return ref;
    }
    return undefined;
  }

  async #sameBytes(ref: ContentRef, images: readonly PlacedImage[]): Promise<boolean> {
    if (!this.#registry.pin(ref)) return false;
    try {
      const there = contentFiles(this.#region, this.#registry.content(ref.index)!);
      for (const { plan, offset } of images) {
        for (const file of plan.files) {
          if (file.path === MANIFEST_PATH) continue;
          const twin = there.get(file.path);
          if (!twin || twin.size !== file.size) return false;
          if (!(await this.#region.mapping.equal(twin.offset, offset + file.offset, file.size))) return false;
        }
      }
      return true;
    } finally {
      this.#registry.unpin(ref);
    }
  }

  #publish(images: readonly PlacedImage[], description: Description, digest: string): void {
    const published = this.#registry.publish(this.#ref, {
      digest,
      bytes: this.#source.files.reduce((sum, file) => sum + file.size, 0),
      createdAtMs: this.#startedMs,
      readyAtMs: Date.now(),
      fileCount: this.#source.files.length,
      tensorCount: description.tensors.length,
      keep: this.#options.keep,
      placement: 'resident',
      format: FORMATS.indexOf(description.format),
      revision: this.#source.revision,
      images: images.map(({ plan, firstChunk, chunkCount }) => ({ firstChunk, chunkCount, bytes: plan.totalSize })),
    });
    if (!published) throw loaderError('INGEST_CLAIM_LOST', 'Another host took over this load; post it again.');
  }
}

function writeMetadata(region: Region, image: PlacedImage): void {
  for (const { offset, length } of image.plan.zero) region.mapping.zero(image.offset + offset, length);
  for (const { offset, bytes } of image.plan.metadata) region.mapping.write(image.offset + offset, bytes);
}

/**
 * Loads a source into the region, or finds the content that has it.
 * A failed or aborted load leaves no bytes behind.
 */
export async function ingest(
  region: Region,
  registry: Registry,
  source: Source,
  options: IngestOptions,
): Promise<Ingested> {
  const claim = registry.claim(source.key);
  if (claim.outcome === 'full') {
    throw loaderError(
      'INGEST_TABLE_FULL',
      'The content table is full; remove models or create a region with more rows.',
    );
  }
  const ref = { index: claim.index, generation: claim.generation };
  if (claim.outcome === 'exists') return { outcome: 'exists', ref };
  try {
    return await new Ingest(region, registry, source, options, ref).run();
  } catch (error) {
    registry.abandon(ref);
    throw error;
  }
}
