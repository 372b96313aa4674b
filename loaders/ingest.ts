/** Turns a source into a content of the region: claim, place, copy with digests in one pass, publish. */
import { setImmediate as turn } from 'node:timers/promises';
import type { Content, FileCopy, FilePlace, ImagePlan, Region, Registry, TreeEntry } from '../daxfs/index.ts';
import { contentFilesPaced, copyIntoRegion, DaxfsError, planFilesPaced } from '../daxfs/index.ts';
import { eachStep, mapStep, pace, type Steps, sortSteps } from '../daxfs/pace.ts';
import type { ContentRef } from '../native/index.ts';
import { copyError } from './copy-errors.ts';
import { type Description, describeSource } from './describe.ts';
import { loaderError } from './errors.ts';
import { FORMATS } from './formats.ts';
import {
  contentDigestPaced,
  encodeManifestPaced,
  MANIFEST_PATH,
  MANIFEST_VERSION,
  type Manifest,
  type ManifestFile,
} from './manifest.ts';
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
  /** Keeps another content from being freed while it is compared; false when it is no longer ready. */
  hold(ref: ContentRef): boolean;
  /** Ends what `hold` began. */
  drop(ref: ContentRef): void;
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

const BLOCK_BYTES = 4096;
/** Upper bounds of what a file and a directory above it add to an image besides data: inode, entry, alignment. */
const FILE_OVERHEAD_BYTES = 64 + 272;
const DIRECTORY_OVERHEAD_BYTES = BLOCK_BYTES + FILE_OVERHEAD_BYTES;
/** Metadata is written in pieces of this size: touching fresh memory takes its time. */
const PIECE_BYTES = 512 * 1024;
/** How often a run that looked long enough may be lost to another host before the load gives up. */
const lostRunsMax = 16;

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

function manifestFiles(source: Source, digests: ReadonlyMap<string, string>): Steps<ManifestFile[]> {
  return mapStep(source.files, ({ path, size }) => ({ path, size, digest: digests.get(path) ?? DIGEST_PLACEHOLDER }));
}

async function planFiles(
  files: readonly SourceFile[],
  manifest: Buffer | null,
  signal: AbortSignal,
): Promise<ImagePlan> {
  const entries = await pace(mapStep(files, fileEntry), signal);
  if (manifest) entries.push(manifestEntry(manifest));
  return planFilesPaced(entries, { largeFileAlign: CHUNK_BYTES }, signal);
}

/** At most this many bytes of an image are due to the file. */
function imageBytesFor({ path, size }: SourceFile): number {
  const unit = size >= CHUNK_BYTES ? CHUNK_BYTES : BLOCK_BYTES;
  const directories = path.split('/').length - 1;
  return Math.ceil(size / unit) * unit + FILE_OVERHEAD_BYTES + directories * DIRECTORY_OVERHEAD_BYTES;
}

/** The files, first ones first, whose image surely fits `chunks`, and the others. None may fit. */
function* fitSteps(
  files: readonly SourceFile[],
  manifest: Buffer | null,
  chunks: number,
): Steps<{ picked: SourceFile[]; rest: SourceFile[] }> {
  const picked: SourceFile[] = [];
  const rest: SourceFile[] = [];
  // A superblock, the manifest with its directory, and the hole before the first large file.
  let bytes = CHUNK_BYTES + 4 * DIRECTORY_OVERHEAD_BYTES + (manifest?.length ?? 0);
  yield* eachStep(files, (file) => {
    const need = imageBytesFor(file);
    const fits = bytes + need <= chunks * CHUNK_BYTES;
    (fits ? picked : rest).push(file);
    if (fits) bytes += need;
  });
  return { picked, rest };
}

/** What native threads are to copy. */
function* copySteps(images: readonly PlacedImage[]): Steps<FileCopy[]> {
  const copies: FileCopy[] = [];
  for (const { plan, offset } of images) {
    yield* eachStep(plan.files, ({ path: name, size, origin, offset: inImage }) => {
      if ('path' in origin) copies.push({ ...origin, name, size, offset: offset + inImage });
    });
  }
  return copies;
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
    const { onPhase, signal } = this.#options;
    onPhase('scanning');
    const description = await describeSource(this.#source, signal);
    signal.throwIfAborted();
    const placeholder = await this.#encode(description, await this.#manifestFiles(new Map()));
    onPhase('allocating');
    const images = await this.#place(placeholder);
    onPhase('copying');
    const digests = await this.#copy(images);
    const files = await this.#manifestFiles(digests);
    const manifest = await this.#encode(description, files);
    if (manifest.length !== placeholder.length) throw new Error('the manifest changed its length with its digests');
    await this.#writeManifest(images, manifest);
    if (this.#options.verify) await this.#verify(images, digests);
    onPhase('publishing');
    const digest = await contentDigestPaced(files, signal);
    const twin = await this.#findTwin(digest, images);
    if (twin) {
      this.#registry.abandon(this.#ref);
      return { outcome: 'exists', ref: twin };
    }
    signal.throwIfAborted();
    this.#publish(images, description, digest);
    return { outcome: 'loaded', ref: this.#ref };
  }

  #manifestFiles(digests: ReadonlyMap<string, string>): Promise<ManifestFile[]> {
    return pace(manifestFiles(this.#source, digests), this.#options.signal);
  }

  #encode({ format, tensors, metadata }: Description, files: ManifestFile[]): Promise<Buffer> {
    const { uri: source, revision } = this.#source;
    const manifest: Manifest = { version: MANIFEST_VERSION, format, source, revision, files, tensors, metadata };
    return encodeManifestPaced(manifest, this.#options.signal);
  }

  /** Places the content in one image, or in several when no free run is long enough. */
  async #place(manifest: Buffer): Promise<PlacedImage[]> {
    const { signal, makeRoom } = this.#options;
    const whole = await planFiles(this.#source.files, manifest, signal);
    const single = this.#allocate(whole);
    if (single) return [single];
    while (await makeRoom(whole.totalSize)) {
      await turn();
      signal.throwIfAborted();
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

  /** Largest files first, each run as full as it gets. */
  async #placeSplit(manifest: Buffer, wholeBytes: number): Promise<PlacedImage[]> {
    const { signal } = this.#options;
    const images: PlacedImage[] = [];
    const bySize = sortSteps(this.#source.files, (a, b) => b.size - a.size);
    let rest = await pace(bySize, signal);
    for (let lost = 0; rest.length > 0 && images.length < this.#registry.imagesPerContentMax; ) {
      const head = images.length === 0 ? manifest : null;
      const fit = await pace(fitSteps(rest, head, this.#registry.chunkStats().largestFreeRun), signal);
      if (fit.picked.length === 0) break;
      const image = this.#allocate(await planFiles(fit.picked, head, signal));
      if (image) {
        images.push(image);
        rest = fit.rest;
      } else if (++lost > lostRunsMax) break;
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
    const { signal, onBytes } = this.#options;
    for (const image of images) await pace(metadataSteps(this.#region, image), signal);
    const files = await pace(copySteps(images), signal);
    const report = (done: number) => {
      onBytes(done);
      this.#registry.setBytesDone(this.#ref, done);
    };
    return copyIntoRegion(this.#region.mapping, files, { signal, onBytes: report }).catch((error: unknown) => {
      throw copyError(error);
    });
  }

  async #writeManifest(images: readonly PlacedImage[], bytes: Buffer): Promise<void> {
    const first = images[0]!;
    const file = first.plan.files.find(({ path }) => path === MANIFEST_PATH);
    if (!file) throw new Error('the image plan lost the manifest');
    await pace(writeSteps(this.#region, first.offset + file.offset, bytes), this.#options.signal);
  }

  async #verify(images: readonly PlacedImage[], digests: ReadonlyMap<string, string>): Promise<void> {
    this.#options.onPhase('verifying');
    for (const { plan, offset } of images) {
      for (const file of plan.files) {
        if (!digests.has(file.path)) continue;
        this.#options.signal.throwIfAborted();
        const found = (await this.#region.mapping.digest(offset + file.offset, file.size)).toString('hex');
        if (found === digests.get(file.path)) continue;
        throw loaderError(
          'INGEST_VERIFY_FAILED',
          `${file.path} reads back differently from the region; check the memory.`,
        );
      }
    }
  }

  /**
   * A ready content with the same digest and, compared byte for byte, the same files. Not one of another revision: a worker
   * that asks for the revision that was loaded must find it.
   */
  async #findTwin(digest: string, images: readonly PlacedImage[]): Promise<ContentRef | undefined> {
    for (const content of this.#registry.contents()) {
      if (content.digest !== digest || content.state !== 'ready' || content.index === this.#ref.index) continue;
      if (this.#source.revision !== null && content.revision !== this.#source.revision) continue;
      const ref = { index: content.index, generation: content.generation };
      if (await this.#sameBytes(ref, images)) return ref;
    }
    return undefined;
  }

  async #sameBytes(ref: ContentRef, images: readonly PlacedImage[]): Promise<boolean> {
    if (!this.#options.hold(ref)) return false;
    try {
      const there = await readablePlaces(this.#region, this.#registry.content(ref.index));
      for (const { plan, offset } of images) {
        for (const file of plan.files) {
          if (file.path === MANIFEST_PATH) continue;
          this.#options.signal.throwIfAborted();
          const twin = there?.get(file.path);
          if (!twin || twin.size !== file.size) return false;
          if (!(await this.#region.mapping.equal(twin.offset, offset + file.offset, file.size))) return false;
        }
      }
      return true;
    } finally {
      this.#options.drop(ref);
    }
  }

  #publish(images: readonly PlacedImage[], description: Description, digest: string): void {
    const published = this.#registry.publish(this.#ref, {
      digest,
      bytes: this.#source.bytes,
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

/** Where the files of another content lie; undefined when it is damaged, which is not this load's trouble. */
async function readablePlaces(
  region: Region,
  content: Content | undefined,
): Promise<Map<string, FilePlace> | undefined> {
  if (!content || content.corrupt) return undefined;
  try {
    return await contentFilesPaced(region, content);
  } catch (error) {
    if (error instanceof DaxfsError) return undefined;
    throw error;
  }
}

function* writeSteps({ mapping }: Region, offset: number, bytes: Buffer): Steps<void> {
  for (let done = 0; done < bytes.length; done += PIECE_BYTES) {
    mapping.write(offset + done, bytes.subarray(done, done + PIECE_BYTES));
    yield;
  }
}

/** Writes what is no file data. */
function* metadataSteps(region: Region, { plan, offset }: PlacedImage): Steps<void> {
  for (const { offset: start, length } of plan.zero) {
    region.mapping.zero(offset + start, length);
    yield;
  }
  for (const { offset: start, bytes } of plan.metadata) yield* writeSteps(region, offset + start, bytes);
}

/** Undoes a claim without hiding why. What cannot be undone now is undone when this host's row is taken over. */
function abandon(registry: Registry, ref: ContentRef): void {
  try {
    registry.abandon(ref);
  } catch (error) {
    if (!(error instanceof DaxfsError)) throw error;
  }
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
      'The content table of the region is full; remove models, or make a region with "daxserve region create --contents N".',
    );
  }
  const ref = { index: claim.index, generation: claim.generation };
  if (claim.outcome === 'exists') return { outcome: 'exists', ref };
  try {
    return await new Ingest(region, registry, source, options, ref).run();
  } catch (error) {
    abandon(registry, ref);
    throw error;
  }
}
