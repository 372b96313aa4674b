/** The command mkdaxfs: makes DAXFS images. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { fileSource } from './byte-source.ts';
import { DaxfsError } from './errors.ts';
import { type ImageSummary, writeImageFile } from './image-file.ts';
import { validateImage } from './image-validate.ts';
import { CONSTANTS } from './layout.ts';
import { formatBytes, parseSize } from './units.ts';

const VERSION = '0.1.0';
const FINDINGS_SHOWN = 10;
const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

interface MkdaxfsOptions {
  directory?: string;
  output?: string;
  size?: number;
  validate?: boolean;
  skipSpecial?: boolean;
}

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

/** Sizes as the format's own tool takes them: also hexadecimal. */
function sizeOption(text: string): number {
  try {
    return /^0x[0-9a-f]{1,13}$/i.test(text) ? Number(text) : parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** Every option, in the order of the help text. */
const OPTIONS: readonly Option[] = [
  new Option('-d, --directory <dir>', 'source tree'),
  new Option('-o, --output <file>', 'image file; written under another name and renamed when it is whole'),
  new Option('-s, --size <size>', 'refuse an image that needs more (K, M, G, T)').argParser(sizeOption),
  new Option('-V, --validate', 'check the finished image against every rule of the format'),
  new Option('--skip-special', 'leave devices, FIFOs and sockets out instead of refusing the tree'),
];

function versionText(): string {
  const { superblockVersion, overlayVersion, pageCacheVersion } = CONSTANTS;
  const format = `super v${superblockVersion.value}, overlay v${overlayVersion.value}, pcache v${pageCacheVersion.value}`;
  return `mkdaxfs (daxfs) ${VERSION}\non-disk format: ${format}`;
}

function makeCommand(io: Console): Command {
  const command = new Command('mkdaxfs')
    .description('Makes a DAXFS image of a directory tree.')
    .usage('-d DIR -o FILE [options]')
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

function checkImage(fd: number): void {
  const { ok, findings, total } = validateImage(fileSource(fd), { findingsMax: FINDINGS_SHOWN });
  if (ok) return;
  const lines = findings.map(({ rule, offset, detail }) => `  ${rule} at byte ${offset}: ${detail}`);
  throw new Error(`The image breaks ${total} rules and was not kept; a file may have changed:\n${lines.join('\n')}`);
}

function summaryText(output: string, { bytes, files, directories, symlinks, inodeCount }: ImageSummary): string {
  return `${output}: ${formatBytes(bytes)}, ${files} files, ${directories} directories, ${symlinks} links, ${inodeCount} inodes\n`;
}

async function makeImage(
  options: Required<Pick<MkdaxfsOptions, 'directory' | 'output'>> & MkdaxfsOptions,
  io: Console,
) {
  const { directory, output, size, validate, skipSpecial } = options;
  const abort = new AbortController();
  const stop = () => abort.abort(new Error('Interrupted; nothing was written.'));
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    const summary = await writeImageFile(directory, output, {
      signal: abort.signal,
      ...(size === undefined ? {} : { sizeMax: size }),
      ...(validate ? { check: checkImage } : {}),
      ...(io.isTerminal ? { onProgress: (done: number, total: number) => drawProgress(io, done, total) } : {}),
      ...(skipSpecial ? { onSpecial: (path: Buffer, kind: string) => io.err(`skipped ${path} (${kind})\n`) } : {}),
    });
    if (io.isTerminal) io.err('\r\x1b[K');
    io.out(summaryText(output, summary));
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/** Runs the command. @param args without the program's name; returns the exit code: 0, 1 failed, 2 usage */
export async function main(args: readonly string[], io: Console = stdio): Promise<number> {
  const command = makeCommand(io);
  try {
    command.parse([...args], { from: 'user' });
    const options = command.opts<MkdaxfsOptions>();
    const { directory, output } = options;
    if (directory === undefined || output === undefined) {
      command.error(`error: ${directory === undefined ? '-d DIR' : '-o FILE'} is missing; see mkdaxfs --help`);
    }
    await makeImage({ ...options, directory: directory!, output: output! }, io);
    return EXIT.ok;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const code = error instanceof DaxfsError ? ` (${error.code})` : '';
    io.err(`${io.isTerminal ? '\r\x1b[K' : ''}mkdaxfs: ${(error as Error).message}${code}\n`);
    return EXIT.failed;
  }
}
