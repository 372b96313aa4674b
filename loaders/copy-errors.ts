/** What went wrong in the native copy, said in the words of sources. */
import { loaderError } from './errors.ts';

const sentences = {
  ESTALE: ['SOURCE_CHANGED', 'changed while it was loaded; load it again when nobody writes to it.'],
  ENOENT: ['SOURCE_NOT_FOUND', 'vanished while it was loaded; put it back and load it again.'],
  EACCES: ['SOURCE_UNREADABLE', 'may not be read by the service; make it readable.'],
  EPERM: ['SOURCE_UNREADABLE', 'may not be read by the service; make it readable.'],
  EINVAL: ['SOURCE_SPECIAL_FILE', 'is no regular file any more; load it again.'],
  EIO: ['SOURCE_IO', 'could not be read (I/O error); check the disk.'],
} as const;

/** An error of `copyIntoRegion` as a LoaderError naming the file; others come back as they are. */
export function copyError(error: unknown): unknown {
  const { code, path } = error as { code?: string; path?: string };
  if (path === undefined || code === undefined || !(code in sentences)) return error;
  const [known, sentence] = sentences[code as keyof typeof sentences];
  return loaderError(known, `The file ${JSON.stringify(path)} of the source ${sentence}`, { cause: error });
}
