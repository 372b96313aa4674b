/** What a ready content holds: its manifest and where each file lies in the region. Parsed once per content. */
import { type Content, contentFilesPaced, type FilePlace, type Region } from '../../daxfs/index.ts';
import { eachStep, mapStep, pace, type Steps, sortSteps } from '../../daxfs/pace.ts';
import { checkManifestSize, decodeManifestPaced, MANIFEST_PATH, type Manifest } from '../../loaders/index.ts';
import type { ContentRef } from '../../native/index.ts';
import { serverError } from '../errors.ts';
import type { Handle, HandleFile } from '../services.ts';
import type { Holds } from './holds.ts';
import { keyOf } from './names.ts';

export interface ContentView {
  readonly manifest: Manifest;
  /** Every file, the manifest first, as handles show it: `bufferOffset` counts from the start of the region. */
  readonly files: readonly HandleFile[];
  /** What a handle to all files shows: one buffer, the region. */
  readonly buffers: Handle['buffers'];
  /** file path -> its entry in `files`. */
  readonly byPath: ReadonlyMap<string, HandleFile>;
  /** tensor name -> file path. */
  readonly fileOfTensor: ReadonlyMap<string, string>;
}

/** Views remembered, counted in files and tensors (about 300 bytes each); the least recently used go first. */
const entriesMax = 1_000_000;

/** Read in pieces of this size. */
const pieceBytes = 512 * 1024;

function handleFile(path: string, digest: string, place: FilePlace): HandleFile {
  const extents = place.size > 0 ? [{ fileOffset: 0, bufferOffset: place.offset, length: place.size }] : [];
  return { path, size: place.size, digest, extents };
}

const sizeOf = (content: Content) => content.fileCount + content.tensorCount + 1;

interface Kept {
  view: Promise<ContentView>;
  size: number;
  /** Counts uses: the smallest is the least recently used. */
  usedAt: number;
}

export class ContentViews {
  readonly #region: Region;
  readonly #holds: Holds;
  readonly #views = new Map<number, Kept>();
  #entries = 0;
  #uses = 0;

  constructor(region: Region, holds: Holds) {
    this.#region = region;
    this.#holds = holds;
  }

  /** @throws DaxfsError, LoaderError when image or manifest break a rule; ServerError MODEL_NOT_READY */
  view(content: Content): Promise<ContentView> {
    const known = this.#views.get(keyOf(content));
    if (!known) return this.#remember(content, this.#readHeld(content));
    known.usedAt = ++this.#uses;
    return known.view;
  }

  /** True when `view` needs not read the region. */
  has(ref: ContentRef): boolean {
    return this.#views.has(keyOf(ref));
  }

  forget(ref: ContentRef): void {
    this.#entries -= this.#views.get(keyOf(ref))?.size ?? 0;
    this.#views.delete(keyOf(ref));
  }

  #remember(content: Content, view: Promise<ContentView>): Promise<ContentView> {
    const size = sizeOf(content);
    this.#views.set(keyOf(content), { view, size, usedAt: ++this.#uses });
    this.#entries += size;
    view.catch(() => this.forget(content));
    if (this.#entries > entriesMax) this.#forgetOldest();
    return view;
  }

  #forgetOldest(): void {
    for (const [key, { size }] of [...this.#views].sort(([, a], [, b]) => a.usedAt - b.usedAt)) {
      if (this.#entries <= entriesMax || this.#views.size === 1) break;
      this.#views.delete(key);
      this.#entries -= size;
    }
  }

  /** The bytes must not be freed and used again while they are read. */
  async #readHeld(content: Content): Promise<ContentView> {
    if (!this.#holds.acquire(content)) {
      throw serverError('MODEL_NOT_READY', 'The model is being removed; load it again.');
    }
    try {
      return await this.#read(content);
    } finally {
      this.#holds.release(content);
      this.#holds.review(content);
    }
  }

  async #read(content: Content): Promise<ContentView> {
    const places = await contentFilesPaced(this.#region, content);
    const manifest = await decodeManifestPaced(await pace(this.#manifestSteps(places.get(MANIFEST_PATH))));
    return pace(viewSteps(manifest, places, this.#region.sizeBytes));
  }

  *#manifestSteps(place: FilePlace | undefined): Steps<Buffer> {
    const { offset, size } = place ?? { offset: 0, size: 0 };
    checkManifestSize(size);
    const bytes = Buffer.allocUnsafe(size);
    for (let done = 0; done < size; done += pieceBytes) {
      this.#region.mapping.read(offset + done, Math.min(pieceBytes, size - done)).copy(bytes, done);
      yield;
    }
    return bytes;
  }
}

/** The manifest first, then by path. */
function order(a: HandleFile, b: HandleFile): number {
  return Number(b.path === MANIFEST_PATH) - Number(a.path === MANIFEST_PATH) || (a.path < b.path ? -1 : 1);
}

function* viewSteps(
  manifest: Manifest,
  places: ReadonlyMap<string, FilePlace>,
  regionBytes: number,
): Steps<ContentView> {
  const digests = new Map<string, string>();
  yield* eachStep(manifest.files, ({ path, digest }) => digests.set(path, digest));
  const found = yield* mapStep(places, ([path, place]) => handleFile(path, digests.get(path) ?? '', place));
  const files = yield* sortSteps(found, order);
  const byPath = new Map<string, HandleFile>();
  yield* eachStep(files, (file) => byPath.set(file.path, file));
  const fileOfTensor = new Map<string, string>();
  yield* eachStep(manifest.tensors, ({ name, file }) => fileOfTensor.set(name, file));
  return { manifest, files, buffers: [{ size: regionBytes, files }], byPath, fileOfTensor };
}
