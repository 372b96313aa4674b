/** The command mkdaxfs: makes DAXFS images. */
import { Command, CommanderError } from 'commander';
import { DaxfsError } from './errors.ts';
import type { ImageSummary } from './image-file.ts';
import { CONSTANTS } from './layout.ts';
import type { Front } from './mkdaxfs/front.ts';
import { type Made, make } from './mkdaxfs/make.ts';
import { type MkdaxfsOptions, OPTIONS, type Request, toRequest, UsageError } from './mkdaxfs/options.ts';
import { formatBytes } from './units.ts';

const VERSION = '0.1.0';
const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** Where the command writes; a test passes its own. */
export interface Console {
  out(text: string): unknown;
  err(text: string): unknown;
  /** Progress is drawn only on a terminal. */
  isTerminal: boolean;
}

const stdio: Console = {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  isTerminal: process.stderr.isTTY === true,
};

function versionText(): string {
  const { superblockVersion, overlayVersion, pageCacheVersion } = CONSTANTS;
  const format = `super v${superblockVersion.value}, overlay v${overlayVersion.value}, pcache v${pageCacheVersion.value}`;
  return `mkdaxfs (daxfs) ${VERSION}\non-disk format: ${format}`;
}

function makeCommand(io: Console): Command {
  const command = new Command('mkdaxfs')
    .description(
      'Makes a DAXFS image: of a directory tree, or an empty file system; in a file, a device or a DMA heap.',
    )
    .usage('-d DIR -o FILE | -d DIR -D DEVICE [-o BACKING | -X] | -E -o FILE | -E -H HEAP -m DIR [options]')
    .helpOption('-h, --help', 'this text')
    .version(versionText(), '--version', 'version of the tool and of the format')
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: io.err });
  for (const option of OPTIONS) command.addOption(option);
  return command;
}

function drawProgress(io: Console, done: number, total: number): void {
  const width = 30;
  const part = total === 0 ? 1 : done / total;
  const bar = '#'.repeat(Math.floor(part * width)).padEnd(width, '.');
  io.err(`\r[${bar}] ${Math.floor(part * 100)} % of ${formatBytes(total)} `);
}

function treeText({ files, directories, symlinks, inodeCount }: ImageSummary): string {
  return `${files} files, ${directories} directories, ${symlinks} links, ${inodeCount} inodes`;
}

function frontText({ overlayBytes, bucketCount, poolBytes, slots }: Front): string {
  const overlay = `overlay ${formatBytes(overlayBytes)} (pool ${formatBytes(poolBytes)}, ${bucketCount} buckets)`;
  return slots === 0 ? overlay : `${overlay}, page cache of ${slots} slots`;
}

function summaryText({ target, bytes, tree, front, backing, prewarmed }: Made, mountpoint: string | undefined): string {
  const parts = [formatBytes(bytes), ...(tree ? [treeText(tree)] : []), ...(front ? [frontText(front)] : [])];
  const lines = [`${target}: ${parts.join(', ')}`];
  if (backing) {
    const none = 'not written: there are no bytes to keep';
    lines.push(`${backing.path}: ${backing.bytes === 0 ? none : `${formatBytes(backing.bytes)} of file data`}`);
  }
  if (prewarmed) {
    const { pages, wanted } = prewarmed;
    lines.push(`pre-warmed: ${pages} of ${wanted} pages; ${wanted - pages} found no slot in their windows`);
  }
  if (mountpoint !== undefined) lines.push(`mounted on ${mountpoint}`);
  return `${lines.join('\n')}\n`;
}

async function run(request: Request, io: Console): Promise<void> {
  const abort = new AbortController();
  const stop = () => abort.abort(new Error('Interrupted; the image was not finished.'));
  process.once('SIGINT', stop).once('SIGTERM', stop);
  if (request.ignored.length > 0) {
    io.err(`mkdaxfs: ${request.ignored.join(', ')} ignored: a static image has no overlay and no page cache\n`);
  }
  try {
    const made = await make(request, {
      signal: abort.signal,
      ...(io.isTerminal ? { onProgress: (done: number, total: number) => drawProgress(io, done, total) } : {}),
      onSpecial: (path, kind) => io.err(`skipped ${path} (${kind})\n`),
    });
    if (io.isTerminal) io.err('\r\x1b[K');
    io.out(summaryText(made, request.mountpoint));
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/** Runs the command. @param args without the program's name; returns the exit code: 0, 1 failed, 2 usage */
export async function main(args: readonly string[], io: Console = stdio): Promise<number> {
  const command = makeCommand(io);
  try {
    command.parse([...args], { from: 'user' });
    await run(toRequest(command.opts<MkdaxfsOptions>()), io);
    return EXIT.ok;
  } catch (error) {
    if (error instanceof UsageError) {
      io.err(`error: ${error.message}; see mkdaxfs --help\n`);
      return EXIT.usage;
    }
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const code = error instanceof DaxfsError ? ` (${error.code})` : '';
    io.err(`${io.isTerminal ? '\r\x1b[K' : ''}mkdaxfs: ${(error as Error).message}${code}\n`);
    return EXIT.failed;
  }
}
