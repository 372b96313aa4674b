/** Copies files into a mapping with their digests, as one cancellable operation with progress. */
import { type Mapping, native } from '../native/index.ts';

/** A file and where its byte 0 goes, in bytes from the start of the mapping. */
export interface FileCopy {
  name: string;
  path: string | Buffer;
  size: number;
  mtimeNs: bigint;
  ino: bigint;
  offset: number;
}

export interface CopyProgress {
  signal: AbortSignal;
  /** Bytes done so far, every 100 ms and once at the end. */
  onBytes(done: number): void;
}

const progressIntervalMs = 100;
/** A job is handed over, and its digests come back, in one go: about a millisecond for so many files. */
const filesPerJob = 1024;

/**
 * @returns XXH3-128 (32 hex digits) of each file by its name
 * @throws AbortError when cancelled; what `onBytes` threw; ESTALE, ENOENT, EIO... with `path` naming the file
 */
export async function copyIntoRegion(
  mapping: Mapping,
  files: readonly FileCopy[],
  { signal, onBytes }: CopyProgress,
): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  let before = 0;
  for (let start = 0; start < files.length; start += filesPerJob) {
    const batch = files.slice(start, start + filesPerJob);
    const reportAll = (done: number) => onBytes(before + done);
    before += await copyBatch(mapping, batch, { signal, onBytes: reportAll }, digests);
  }
  return digests;
}

/** @returns bytes copied */
async function copyBatch(
  mapping: Mapping,
  files: FileCopy[],
  { signal, onBytes }: CopyProgress,
  digests: Map<string, string>,
): Promise<number> {
  signal.throwIfAborted();
  const job = native.startCopy(mapping, files, {});
  let refused: { error: unknown } | undefined;
  const report = () => {
    try {
      onBytes(job.progress());
    } catch (error) {
      // Thrown out of a timer it would end the process.
      refused ??= { error };
      job.cancel();
    }
  };
  const timer = setInterval(report, progressIntervalMs);
  const cancel = () => job.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    const found = await job.done;
    report();
    if (refused) throw refused.error;
    for (const [i, { name }] of files.entries()) digests.set(name, found.digests[i]!.toString('hex'));
    return job.progress();
  } catch (error) {
    signal.throwIfAborted();
    if (refused) throw refused.error;
    const { index } = error as { index?: number };
    throw index === undefined ? error : Object.assign(error as Error, { path: files[index]?.name });
  } finally {
    clearInterval(timer);
    signal.removeEventListener('abort', cancel);
  }
}
