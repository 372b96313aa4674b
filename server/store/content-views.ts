/** What a ready content holds: its manifest and where each file lies in the region. Parsed once per content. */
import { type Content, contentFiles, type FilePlace, type Region } from '../../daxfs/index.ts';
import { decodeManifestPaced, MANIFEST_PATH, type Manifest } from '../../loaders/index.ts';
import type { HandleFile } from '../services.ts';

export interface ContentView {
  readonly manifest: Manifest;
  /** Every file, the manifest first, as handles show it: `bufferOffset` counts from the start of the region. */
  readonly files: readonly HandleFile[];
  /** file path -> its entry in `files`. */
  readonly byPath: ReadonlyMap<string, HandleFile>;
  /** tensor name -> file path. */
  readonly fileOfTensor: ReadonlyMap<string, string>;
}

const viewsMax = 4096;

function handleFile(path: string, digest: string, place: FilePlace): HandleFile {
  const extents = place.size > 0 ? [{ fileOffset: 0, bufferOffset: place.offset, length: place.size }] : [];
  return { path, size: place.size, digest, extents };
}

export class ContentViews {
  readonly #region: Region;
  readonly #views = new Map<string, Promise<ContentView>>();

  constructor(region: Region) {
    this.#region = region;
  }

  /** @throws DaxfsError, LoaderError when image or manifest break a rule */
  view(content: Content): Promise<ContentView> {
    const key = `${content.index}@${content.generation}`;
    const known = this.#views.get(key);
    if (known) return known;
    const view = this.#read(content);
    if (this.#views.size >= viewsMax) this.#views.delete(this.#views.keys().next().value!);
    this.#views.set(key, view);
    view.catch(() => this.#views.delete(key));
    return view;
  }

  forget(content: { index: number; generation: number }): void {
    this.#views.delete(`${content.index}@${content.generation}`);
  }

  async #read(content: Content): Promise<ContentView> {
    const places = contentFiles(this.#region, content);
    const manifestPlace = places.get(MANIFEST_PATH);
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
      byPath: new Map(files.map((file) => [file.path, file])),
      fileOfTensor: new Map(manifest.tensors.map((tensor) => [tensor.name, tensor.file])),
    };
  }
}
