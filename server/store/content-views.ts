/** What a ready content holds: its manifest and where each file lies in the region. Parsed once per content. */
import { type Content, contentFilesPaced, type FilePlace, type Region } from '../../daxfs/index.ts';
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
    const manifestPlace = places.get(MANIFEST_PATH);
    checkManifestSize(manifestPlace?.size ?? 0);
    const bytes = manifestPlace ? this.#region.mapping.read(manifestPlace.offset, manifestPlace.size) : Buffer.alloc(0);
    const manifest = await decodeManifestPaced(bytes);
    const digests = new Map(manifest.files.map((file) => [file.path, file.digest]));
    const files = [...places]
      .map(([path, place]) => handleFile(path, digests.get(path) ?? '', place))
      .sort(
        (a, b) => Number(b.path === MANIFEST_PATH) - Number(a.path === MANIFEST_PATH) || (a.path < b.path ? -1 : 1),
      );
    return {
      manifest,
      files,
      buffers: [{ size: this.#region.sizeBytes, files }],
      byPath: new Map(files.map((file) => [file.path, file])),
      fileOfTensor: new Map(manifest.tensors.map((tensor) => [tensor.name, tensor.file])),
    };
  }
}
