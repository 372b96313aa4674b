/** The command line: `daxserve COMMAND`. Exit code 0 = done, 1 = failed, 2 = used wrongly. */
import { Command, CommanderError } from 'commander';
import { DaxfsError } from '../../daxfs/errors.ts';
import { VERSION } from '../version.ts';
import { addDoctor } from './doctor.ts';
import { addLeaseCommands } from './leases.ts';
import { addModelCommands } from './models.ts';
import { printableText } from './output.ts';
import { addRegionCommands } from './region.ts';
import { addTop } from './top.ts';

/** Loading what `serve` is made of takes longer than any other command takes to run. */
async function addServeIfAsked(program: Command, argv: readonly string[]): Promise<void> {
  if (argv.includes('serve')) return (await import('./serve.ts')).addServe(program);
  program.command('serve [source...]').description('run the service; sources are loaded at once');
}

async function buildProgram(argv: readonly string[]): Promise<Command> {
  const program = new Command('daxserve')
    .description('Model weights once in memory, read in place by every process')
    .version(VERSION)
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true });
  await addServeIfAsked(program, argv);
  addModelCommands(program);
  addLeaseCommands(program);
  addRegionCommands(program);
  addTop(program);
  addDoctor(program);
  return program;
}

/** What the user wrote cannot be meant, whatever the machine is like. */
const USAGE = new Set(['SERVER_BAD_CONFIG', 'DAXFS_BAD_SIZE']);

function report(error: unknown, json: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const { message, code } = error instanceof DaxfsError ? error : { message: String(error), code: 'SERVER_INTERNAL' };
  const extra = error instanceof DaxfsError ? error.extra : undefined;
  const text = json
    ? JSON.stringify({ ...extra, code, error: message })
    : printableText(`daxserve: ${message} (${code})`);
  process.stderr.write(`${text}\n`);
  if (!(error instanceof DaxfsError) && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return USAGE.has(code) ? 2 : 1;
}

/** Runs one command. @param argv as in process.argv @returns the exit code */
export async function runCli(argv: readonly string[]): Promise<number> {
  // A reader that closes the pipe early (head) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
  });
  try {
    const program = await buildProgram(argv);
    await program.parseAsync([...argv]);
    return Number(process.exitCode ?? 0);
  } catch (error) {
    return report(error, argv.includes('--json'));
  }
}
