/** What went wrong in the native copy, said in the words of sources. */
import { loaderError } from './errors.ts';

const sentences = {
  ESTALE: ['SOURCE_CHANGED', 'changed while it was loaded; load it again when nobody writes to it.'],
  ENOENT: ['SOURCE_NOT_FOUND', 'vanished while it was loaded; put it back and load it again.'],
  EACCES: ['SOURCE_UNREADABLE', 'may not be read by the service; make it readable.'],
  EPERM: ['SOURCE_UNREADABLE', 'may not be read by the service; make it readable.'],
  EINVAL: ['SOURCE_SPECIAL_FILE', 'is no regular file any more; load it again.'],
  EISDIR: ['SOURCE_SPECIAL_FILE', 'is no regular file any more; load it again.'],
  EIO: ['SOURCE_IO', 'could not be read (I/O error); check the disk.'],
  EMFILE: ['SOURCE_IO', 'could not be opened: the service has too many open files; raise its limit.'],
  ENFILE: ['SOURCE_IO', 'could not be opened: the machine has too many open files; close some.'],
  ENOMEM: ['SOURCE_IO', 'could not be read: the machine is out of memory; free some and load it again.'],
  ENOSPC: [
    'INGEST_NO_ROOM',
    'found no memory behind the region, which was not reserved or has shrunk; free memory on its file system.',
  ],
} as const;
const otherwise = ['SOURCE_IO', 'could not be read; the log of the service says why.'] as const;

/** An error of `copyIntoRegion` as a LoaderError naming the file; what is no failure of the system comes back as it is. */
export function copyError(error: unknown): unknown {
  const { code, path, syscall } = error as { code?: string; path?: string; syscall?: string };
  if (code === 'EAGAIN' && syscall === 'pthread_create') {
    const text = 'The service could not start a thread to read the source; raise its limit of processes.';
    return loaderError('SOURCE_IO', text, { cause: error });
  }
  if (path === undefined || code === undefined || syscall === undefined) return error;
  const [known, sentence] = code in sentences ? sentences[code as keyof typeof sentences] : otherwise;
  return loaderError(known, `The file ${JSON.stringify(path)} of the source ${sentence}`, { cause: error });
}
