/** The directories that sources must lie under. Paths are compared with all links resolved. */
import { realpath } from 'node:fs/promises';
import { loaderError, shown } from './errors.ts';

/** True when `path` is `directory` or lies below it; both absolute and resolved. */
export function isInside(directory: string, path: string): boolean {
  return path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`);
}

/** The roots with links resolved; those that do not exist are left out. */
export async function resolvedRoots(roots: readonly string[]): Promise<string[]> {
  const resolved = await Promise.all(roots.map((root) => realpath(root).catch(() => undefined)));
  return resolved.filter((root) => root !== undefined);
}

/** @throws LoaderError SOURCE_OUTSIDE_ROOTS naming the flag that allows it */
export function requireInsideRoots(path: string, roots: readonly string[], shownPath: string): void {
  if (roots.some((root) => isInside(root, path))) return;
  throw loaderError(
    'SOURCE_OUTSIDE_ROOTS',
    `${shown(shownPath)} lies outside the source roots; serve with --source-root DIR to allow its directory.`,
  );
}
