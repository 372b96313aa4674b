/** The command daxfs-inspect: shows what a DAXFS image, region or mount holds. Reads only. */
import { writeSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import type { ByteSource } from './byte-source.ts';
import { cachedSource } from './cached-source.ts';
import { decode, encode, offsetOf } from './codec.ts';
import { DaxfsError } from './errors.ts';
import { backingFile, exportedTree, FrontReader } from './front-read.ts';
import { validateFront } from './front-validate.ts';
import { validateImage } from './image-validate.ts';
import { overlayReport, statusReport } from './inspect/report.ts';
import { type OpenSource, openSource, type SourceChoice } from './inspect/source.ts';
import { overlayText, statusText } from './inspect/text.ts';
import { treeItems, treeLine } from './inspect/tree.ts';
import { CONSTANTS, LOCATOR_MAGIC, locator, superblock } from './layout.ts';
import { addressOption } from './mkdaxfs/options.ts';
import { readSuperblock } from './overlay-read.ts';
import { frontKind } from './overlay-table.ts';

const VERSION = '0.1.0';
const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** Where the command writes; a test passes its own. */
export interface Output {
  out(text: string): unknown;
  err(text: string): unknown;
  /** Bytes of a file. */
  bytes(bytes: Buffer): void;
}

interface InspectOptions {
  mount?: string;
  phys?: number;
  size?: number;
  file?: string;
  json?: boolean;
  backing?: string;
  export?: string;
}

function writeAll(bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      // A pipe that is full and does not block.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
  }
}

const stdio: Output = {
  out: (text) => writeAll(Buffer.from(text)),
  err: (text) => process.stderr.write(text),
  bytes: writeAll,
};

function numberOption(text: string): number {
  const value = addressOption(text);
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('It must be below 2^53.');
  return value;
}

function usage(command: Command, message: string): never {
  return command.error(`error: ${message}; see daxfs-inspect help`);
}

function sourceChoice(command: Command, { mount, phys, size, file }: InspectOptions): SourceChoice {
  const given = [mount, phys, file].filter((value) => value !== undefined);
  if (given.length !== 1) usage(command, 'give one of -f FILE, -m MOUNT and -p ADDR -s SIZE');
  if (phys !== undefined && !size) usage(command, '-p needs -s SIZE');
  if (phys === undefined && size !== undefined) usage(command, '-s belongs to -p ADDR');
  if (mount !== undefined) return { kind: 'mount', path: mount };
  return file !== undefined ? { kind: 'file', path: file } : { kind: 'physical', address: phys!, size: size! };
}

type Action = (open: OpenSource, options: InspectOptions, output: Output) => number;

const printJson = (output: Output, value: unknown) => output.out(`${JSON.stringify(value, null, 2)}\n`);

const status: Action = ({ source }, { json }, output) => {
  const report = statusReport(cachedSource(source));
  if (json) printJson(output, report);
  else output.out(statusText(report));
  return EXIT.ok;
};

const overlay: Action = ({ source, name }, { json }, output) => {
  const report = overlayReport(cachedSource(source));
  if (json) printJson(output, report ?? null);
  else output.out(report ? overlayText(report) : `${name} has no overlay: it is read-only.\n`);
  return EXIT.ok;
};

const tree: Action = ({ source }, { json }, output) => {
  let damaged = 0;
  const items = treeItems(cachedSource(source));
  if (json) output.out('{"items": [');
  let separator = '\n';
  for (const item of items) {
    if (item.damage !== undefined) damaged++;
    output.out(json ? `${separator}${JSON.stringify(item)}` : treeLine(item));
    separator = ',\n';
  }
  if (json) output.out('\n]}\n');
  return damaged === 0 ? EXIT.ok : EXIT.failed;
};

function openFront(open: OpenSource, options: InspectOptions): FrontReader {
  const source = cachedSource(open.source);
  const { block_size: block } = readSuperblock(source);
  if (options.backing !== undefined) return new FrontReader(source, backingFile(options.backing, block));
  if (options.export !== undefined) return new FrontReader(source, exportedTree(options.export, block));
  return new FrontReader(source);
}

const cat =
  (path: string): Action =>
  (open, options, output) => {
    const front = openFront(open, options);
    for (const bytes of front.content(front.lookup(path), path)) output.bytes(bytes);
    return EXIT.ok;
  };

/** The front of a region as a plain image: without the locator and the bit that keeps kernels away. */
function plainFront(source: ByteSource): ByteSource {
  const head = readSuperblock(source);
  if (decode(locator, head.locator).magic !== LOCATOR_MAGIC) return source;
  const plain = encode(superblock, { ...head, version: head.version & ~CONSTANTS.privateFrontBit.value });
  plain.fill(0, offsetOf(superblock, 'locator'));
  const read = (offset: number, length: number) => {
    const bytes = source.read(offset, length);
    if (offset < plain.length) plain.copy(bytes, 0, offset, Math.min(plain.length, offset + length));
    return bytes;
  };
  return { size: source.size, read };
}

const check: Action = (open, { json }, output) => {
  const source = cachedSource(open.source);
  const kind = frontKind(readSuperblock(source).version);
  const plain = plainFront(source);
  const headers = validateImage(plain);
  const contents = validateFront(plain, { kind });
  const total = headers.total + contents.total;
  const findings = [...headers.findings, ...contents.findings];
  if (json)
    printJson(output, { ok: total === 0, upstreamOk: headers.upstreamOk, findings, total, pool: contents.pool });
  else {
    for (const { rule, offset, detail } of findings) output.out(`${rule} at byte ${offset}: ${detail}\n`);
    output.out(total === 0 ? `${open.name} breaks no rule.\n` : `${open.name} breaks ${total} rules.\n`);
  }
  return total === 0 ? EXIT.ok : EXIT.failed;
};

function versionText(): string {
  const { superblockVersion, overlayVersion, pageCacheVersion } = CONSTANTS;
  const format = `super v${superblockVersion.value}, overlay v${overlayVersion.value}, pcache v${pageCacheVersion.value}`;
  return `daxfs-inspect (daxfs) ${VERSION}\non-disk format: ${format}`;
}

/** A subcommand that reads a source. */
function addCommand(program: Command, name: string, description: string, run: (action: Command) => void): Command {
  const command = program
    .command(name)
    .description(description)
    .option('-f, --file <path>', 'an image, a region, or a device')
    .option('-m, --mount <dir>', 'a mounted daxfs')
    .option('-p, --phys <addr>', 'physical address, read through /dev/mem (needs -s)', numberOption)
    .option('-s, --size <size>', 'bytes from there on (K, M, G, T)', numberOption)
    .option('--json', 'one JSON document')
    .allowExcessArguments(false);
  run(command);
  return command;
}

function makeProgram(output: Output, finish: (code: number) => void): Command {
  const program = new Command('daxfs-inspect')
    .description('Shows what a DAXFS image, region or mount holds. Reads only.')
    .helpOption('-h, --help', 'this text')
    .version(versionText(), '-v, --version', 'version of the tool and of the format')
    .exitOverride()
    .configureOutput({ writeOut: output.out, writeErr: output.err });
  const act = (command: Command, action: Action) => {
    const options = command.opts<InspectOptions>();
    const open = openSource(sourceChoice(command, options));
    try {
      finish(action(open, options, output));
    } finally {
      open.close();
    }
  };
  const simple: [string, string, Action][] = [
    ['status', 'format, regions, use of pool and page cache', status],
    ['overlay', 'header of the overlay, and what its buckets hold', overlay],
    ['tree', 'every name, its size, and where its bytes live', tree],
    ['check', 'every rule of the format; exit code 1 when one is broken', check],
  ];
  for (const [name, description, action] of simple) {
    addCommand(program, name, description, (command) => command.action(() => act(command, action)));
  }
  addCommand(program, 'cat', 'writes the bytes of a file', (command) =>
    command
      .argument('<path>', 'of the file')
      .option('--backing <file>', 'backing file of split mode')
      .option('--export <dir>', 'exported tree of export mode')
      .action((path: string) => act(command, cat(path))),
  );
  return program;
}

/** Runs the command. @param args without the program's name; returns the exit code: 0, 1 failed or damaged, 2 usage */
export function main(args: readonly string[], output: Output = stdio): number {
  let code: number = EXIT.ok;
  const program = makeProgram(output, (result) => {
    code = result;
  });
  for (const command of program.commands) command.exitOverride().copyInheritedSettings(program);
  try {
    program.parse(args.length === 0 ? ['help'] : [...args], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 && args.length > 0 ? EXIT.ok : EXIT.usage;
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return EXIT.failed;
    const suffix = error instanceof DaxfsError ? ` (${error.code})` : '';
    output.err(`daxfs-inspect: ${(error as Error).message}${suffix}\n`);
    return EXIT.failed;
  }
}
