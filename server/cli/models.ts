/** load, ls, show, rm, tag. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { ApiClient } from '../client.ts';
import { fullName, shortName } from '../model-name.ts';
import { errorOfLoad } from '../problem.ts';
import type { LoadRequest, Model, Placement } from '../services.ts';
import { type ApiOptions, clientOf, withApi } from './api-options.ts';
import { bytes, duration, fields, print, table } from './output.ts';
import { ProgressView, settledText } from './progress.ts';
import { texts } from './repeated.ts';

interface LoadOptions extends ApiOptions {
  name?: string;
  placement?: Placement;
  revision?: string;
  include?: string[];
  exclude?: string[];
  keep?: boolean;
  verify?: boolean;
  wait?: boolean;
}

/** Paths are meant from where the command runs, not from where the service runs. */
export function sourceFromHere(source: string): string {
  const isUrl = /^[a-z][a-z0-9+.-]*:/i.test(source);
  const looksLocal = /^[./~]/.test(source) || existsSync(source);
  return !isUrl && looksLocal ? resolve(source) : source;
}

function loadRequest(source: string, options: LoadOptions): LoadRequest {
  const { name, placement, revision, include, exclude, keep, verify } = options;
  return {
    source: sourceFromHere(source),
    ...(name !== undefined && { name }),
    ...(placement !== undefined && { placement }),
    ...(revision !== undefined && { revision }),
    ...(include !== undefined && { include }),
    ...(exclude !== undefined && { exclude }),
    ...(keep !== undefined && { keep }),
    ...(verify !== undefined && { verify }),
  };
}

/** Follows a load to its end. @throws the reason when it fails */
async function follow(client: ApiClient, model: Model, quiet: boolean): Promise<Model> {
  const view = new ProgressView();
  for await (const seen of client.watch(fullName(model))) if (!quiet && seen.state === 'loading') view.update(seen);
  const settled = await client.model(fullName(model));
  if (settled.error) throw errorOfLoad(settled.error);
  return settled;
}

async function load(source: string, options: LoadOptions): Promise<void> {
  const client = clientOf(options);
  const json = options.json ?? false;
  const started = await client.load(loadRequest(source, options));
  const waits = options.wait === true && started.state === 'loading';
  const model = waits ? await follow(client, started, json) : started;
  print(json, model, () => (model.state === 'loading' ? `${fullName(model)}  loading` : settledText(model)));
}

function ago(time: string | null): string {
  return time === null ? '-' : duration(Math.max(0, (Date.now() - Date.parse(time)) / 1000));
}

export function modelTable(models: readonly Model[]): string {
  const rows = models.map((model) => [
    shortName(model),
    model.state === 'loading' ? `loading ${share(model)} %` : model.state,
    model.format ?? '-',
    bytes(model.bytes),
    String(model.tensorCount),
    String(model.leases),
    ago(model.lastAccessAt),
  ]);
  return table(['NAME', 'STATE', 'FORMAT', 'SIZE', 'TENSORS', 'LEASES', 'USED'], rows);
}

function share({ progress: { bytesDone, bytesTotal } }: Model): number {
  return bytesTotal > 0 ? Math.floor((bytesDone / bytesTotal) * 100) : 0;
}

function describe(model: Model): string {
  const text = fields([
    ['name', fullName(model)],
    ['state', model.state],
    ['digest', model.digest ?? '-'],
    ['revision', model.revision ?? '-'],
    ['format', model.format ?? '-'],
    ['placement', model.placement],
    ['size', `${bytes(model.bytes)} (${model.bytes} bytes)`],
    ['tensors', String(model.tensorCount)],
    ['leases', String(model.leases)],
    ['keep', model.keep ? 'yes' : 'no'],
    ['loaded in', model.loadSeconds === null ? '-' : duration(model.loadSeconds)],
    ['ready since', model.readyAt ?? '-'],
    ...(model.error ? [['error', `${model.error.detail} (${model.error.code})`] as const] : []),
  ]);
  const files = (model.files ?? []).map((file) => [file.path, bytes(file.size), file.digest]);
  return files.length === 0 ? text : `${text}\n\n${table(['FILE', 'SIZE', 'XXH3-128'], files)}`;
}

function addLoad(program: Command): void {
  withApi(program.command('load <source>').description('load a model once'))
    .option('--name <name>', 'name[:tag]; from the source when absent')
    .addOption(new Option('--placement <placement>', 'how it is kept').choices(['resident', 'cached']))
    .option('--revision <revision>', 'version wanted')
    // Repeated, not variadic: `--include A B` would swallow B, which is the source.
    .option('--include <pattern>', 'only files that match; may be repeated', texts)
    .option('--exclude <pattern>', 'no files that match; may be repeated', texts)
    .option('--keep', 'never evict it')
    .option('--verify', 'read the bytes back before publishing')
    .option('--wait', 'return when it is loaded')
    .action(load);
}

export function addModelCommands(program: Command): void {
  addLoad(program);
  withApi(program.command('ls').description('list models'))
    .option('--state <state>', 'only models in this state')
    .action(async (options: ApiOptions & { state?: string }) => {
      const models = await clientOf(options).models(options.state);
      print(options.json ?? false, models, () => modelTable(models));
    });
  withApi(program.command('show <model>').description('show one model and its files')).action(
    async (name: string, options: ApiOptions) => {
      const model = await clientOf(options).model(name);
      print(options.json ?? false, model, () => describe(model));
    },
  );
  withApi(program.command('rm <model>').description('free a model'))
    .option('--drain', 'let its workers finish, take no new ones')
    .action(async (name: string, options: ApiOptions & { drain?: boolean }) => {
      const left = await clientOf(options).remove(name, options.drain ?? false);
      const state = left === null ? 'freed' : left.state === 'loading' ? 'cancelling' : 'draining';
      print(options.json ?? false, { name, state, model: left }, () => `${name}  ${state}`);
    });
  withApi(program.command('tag <model> <digest>').description('point a name at another content')).action(
    async (name: string, digest: string, options: ApiOptions) => {
      const model = await clientOf(options).retarget(name, digest);
      print(options.json ?? false, model, () => `${fullName(model)}  ${model.digest}`);
    },
  );
}
