/** Which files of a source are taken: include and exclude, folders left out by default, pickles, reserved paths. */
import { loaderError, shown } from './errors.ts';
import { compileGlobs, type Glob, matchesGlob } from './glob.ts';

export interface Patterns {
  /** Undefined: everything. */
  include: Glob[] | undefined;
  exclude: Glob[];
}

/** Where the manifest of a content lies in its image; a source must not have it. */
export const MANIFEST_PATH = '.daxserve/manifest.json';

/** Formats whose readers execute what the file says. */
const pickleExtensions = ['.bin', '.pt', '.pth', '.pkl', '.pickle', '.ckpt'];

/** Bookkeeping of git and of the hub's downloader, at any depth; include patterns may still name files in them. */
const leftOut = /(^|\/)(\.git|\.cache\/huggingface)\//;

/** @throws LoaderError SOURCE_GLOB */
export function compilePatterns(options: { include?: readonly string[]; exclude?: readonly string[] }): Patterns {
  return {
    include: options.include ? compileGlobs(options.include) : undefined,
    exclude: compileGlobs(options.exclude),
  };
}

/** False for a directory whose files are left out anyway. @param directory with a slash behind it */
export function isWalked(directory: string, { include }: Patterns): boolean {
  return include !== undefined || !leftOut.test(directory);
}

function pickleExtension(path: string): string | undefined {
  const lower = path.toLowerCase();
  return pickleExtensions.find((extension) => lower.endsWith(extension));
}

/** A pattern that ends in the extension itself asks for such files by name; `*` or `models/**` does not. */
function namesExtension(path: string, extension: string, include: readonly Glob[] | undefined): boolean {
  return include?.some((glob) => glob.text.toLowerCase().endsWith(extension) && matchesGlob(path, glob)) ?? false;
}

function checkReserved(path: string): void {
  if (path !== MANIFEST_PATH && path !== '.daxserve') return;
  throw loaderError(
    'SOURCE_RESERVED_PATH',
    `The source has ${shown(path)}, where daxserve puts the manifest; rename it or leave it out with exclude.`,
  );
}

/**
 * True when a file is to be loaded.
 * @throws LoaderError SOURCE_PICKLE, SOURCE_RESERVED_PATH for a file that would be taken but must not
 */
export function isSelected(path: string, { include, exclude }: Patterns): boolean {
  const matches = (glob: Glob) => matchesGlob(path, glob);
  if (exclude.some(matches)) return false;
  if (include ? !include.some(matches) : leftOut.test(path)) return false;
  checkReserved(path);
  const extension = pickleExtension(path);
  if (!extension || namesExtension(path, extension, include)) return true;
  throw loaderError(
    'SOURCE_PICKLE',
    `${shown(path)} may hold pickled weights, which run code when they are read; convert it to safetensors, ` +
      `leave it out with exclude "*${extension}", or carry it as a plain file with an include that ends in "${extension}".`,
  );
}
