/** serve [SOURCE...]: runs the service, preloads models, stops on SIGTERM or SIGINT. */
import type { Command } from 'commander';
import { parseSize } from '../../daxfs/units.ts';
import { type Config, loadConfig } from '../config.ts';
import { CONFIG_KEYS } from '../config-schema.ts';
import { type RunningService, startService } from '../main.ts';
import { fullName } from '../model-name.ts';
import { toDaxfsError } from '../problem.ts';
import type { RegionInfo } from '../schemas/region.ts';
import { sourceFromHere } from './models.ts';
import { bytes, printableText } from './output.ts';
import { ProgressView } from './progress.ts';
import { texts } from './repeated.ts';

const say = (text: string) => void process.stdout.write(`${text}\n`);

/** Reserving a large region takes seconds: say how far it is. */
function reserveView(): (done: number, total: number) => void {
  let shownAt = Date.now();
  return (done, total) => {
    const now = Date.now();
    if (now - shownAt < 1000) return;
    shownAt = now;
    say(`reserving memory: ${bytes(done)} of ${bytes(total)}`);
  };
}

function readyLine({ url, socketPath, opened }: RunningService): string {
  const { path, backing, size } = opened.services.region.info();
  const place = path ?? 'a descriptor';
  return printableText(`daxserve ready: ${url}  socket ${socketPath}  region ${place} (${bytes(size)}, ${backing})`);
}

/** What was asked for in vain, as a region keeps what it was created with. */
export function unheeded({ size, coherence, kernelMountable }: Config, info: RegionInfo): string[] {
  const differs =
    size !== undefined &&
    !size.endsWith('%') &&
    Math.abs(parseSize(size) - info.size) >= Math.max(info.chunkBytes, info.mapAlignment);
  return [
    ...(differs ? [`a size of ${bytes(info.size)}, not ${size}`] : []),
    ...(coherence === 'software' && info.coherence !== coherence ? ['coherence hardware, not software'] : []),
    ...(kernelMountable && !info.kernelMountable ? ['a private front, not a kernel-mountable one'] : []),
  ];
}

function explain({ opened }: RunningService, config: Config): void {
  const info = opened.services.region.info();
  const { pageBytes, readOnly } = info;
  const { created, choice } = opened;
  say(`region ${created ? 'created' : 'adopted'}, pages of ${bytes(pageBytes)}${choice ? `: ${choice.why}` : ''}`);
  const kept = created ? [] : unheeded(config, info);
  if (kept.length > 0) say(`the region keeps ${kept.join(', ')}: delete it to have it made anew`);
  if (choice?.faster) say(`faster: ${choice.faster}`);
  if (readOnly.strength === 'advisory') say(`read-only: ${readOnly.reason ?? 'advisory'}`);
}

/** Loads one source with progress; a failure is said and the service goes on. */
async function preload({ opened }: RunningService, source: string): Promise<void> {
  const { store } = opened.services;
  const view = new ProgressView();
  try {
    const { outcome, model } = await store.load({ source: sourceFromHere(source) });
    if (outcome === 'hit') return view.finish(model);
    const unwatch = store.watch(fullName(model), (seen) => seen.state === 'loading' && view.update(seen));
    view.finish(await store.settled(fullName(model)).finally(unwatch));
  } catch (error) {
    const { message, code } = toDaxfsError(error);
    process.stderr.write(printableText(`${source}: ${message} (${code})`).concat('\n'));
  }
}

/** Runs until a signal asks for the end. The region survives any way to go, so even the rudest one is an exit of 0. */
async function runUntilSignal(config: Config, sources: readonly string[]): Promise<void> {
  let stop: () => Promise<void> = async () => {};
  let signals = 0;
  let stopping = false;
  const asked = new Promise<void>((resolve, reject) => {
    const onSignal = () => {
      // The second signal cuts off what still drains, the third ends the process at once.
      if (++signals > 2) process.exit(0);
      stopping = true;
      stop().then(resolve, reject);
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  });
  const run = async () => {
    const service = await startService(config, { onReserve: reserveView() }, (stopper) => {
      stop = stopper;
    });
    explain(service, config);
    say(readyLine(service));
    for (const source of sources) if (!stopping) await preload(service, source);
  };
  await Promise.race([
    asked,
    run().catch((error: unknown) => {
      if (!stopping) throw error;
    }),
  ]);
  await asked;
}

async function serve(sources: string[], flags: Record<string, unknown>): Promise<void> {
  const { config: file, ...options } = flags;
  const config = loadConfig({ flags: options, env: process.env, ...(typeof file === 'string' && { file }) });
  await runUntilSignal(config, sources);
}

export function addServe(program: Command): void {
  const command = program
    .command('serve [source...]')
    .description('run the service; sources are loaded at once')
    .option('--config <file>', 'daxserve.toml or daxserve.json (DAXSERVE_CONFIG)');
  for (const { kind, flag, doc } of CONFIG_KEYS.values()) {
    if (kind === 'flag') command.option(flag, doc);
    // Repeated, not variadic: `--source-root A B` would swallow B, which is a model to load.
    else if (kind === 'list') command.option(`${flag} <value>`, `${doc}; may be repeated`, texts);
    else if (kind === 'numbers') command.option(`${flag} <n>`, `${doc}; may be repeated`, numbers);
    else command.option(`${flag} <value>`, doc, kind === 'number' ? numberOrText : String);
  }
  command.action(serve);
}

/** What is no number stays text, so that the schema refuses it with the flag's name. */
function numberOrText(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}

function numbers(text: string, before: (number | string)[] = []): (number | string)[] {
  return [...before, numberOrText(text)];
}
