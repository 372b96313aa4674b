/** region create|info|check|delete: on a region itself, no service needed. */
import { type Command, Option } from 'commander';
import { chooseDefault, findDefault } from '../../daxfs/default-backing.ts';
import { daxfsError } from '../../daxfs/errors.ts';
import { Region } from '../../daxfs/region.ts';
import { deleteRegion } from '../../daxfs/region-create.ts';
import { Registry } from '../../daxfs/registry.ts';
import { parseNuma, parseSize } from '../../daxfs/units.ts';
import { serverError } from '../errors.ts';
import { regionView } from '../region-view.ts';
import type { RegionInfo } from '../schemas/region.ts';
import { bytes, fields, print, table } from './output.ts';
import { addRegionCheck } from './region-check.ts';

interface RegionOptions {
  region?: string;
  json?: boolean;
}

interface CreateOptions extends RegionOptions {
  size?: string;
  overlay?: string;
  contents?: number;
  names?: number;
  coherence?: 'hardware' | 'software';
  kernelMountable?: boolean;
  numa?: string;
  force?: boolean;
}

function pathOf({ region = process.env.DAXSERVE_REGION }: RegionOptions): string {
  const path = region ?? findDefault()?.path;
  if (path !== undefined) return path;
  throw daxfsError(
    'DAXFS_NO_REGION',
    'There is no default region on this machine; name one with --region, or make one with "daxserve serve" or "daxserve region create".',
  );
}

function infoText(info: RegionInfo): string {
  const summary = fields([
    ['path', info.path ?? '-'],
    ['uuid', info.uuid],
    ['backing', info.backing],
    ['size', `${bytes(info.size)} (${info.size} bytes)`],
    ['pages', bytes(info.pageBytes)],
    ['numa', info.numa ?? '-'],
    ['map alignment', bytes(info.mapAlignment)],
    ['format', String(info.formatVersion)],
    ['created', info.createdAt],
    ['coherence', info.coherence],
    ['front', info.kernelMountable ? 'kernel-mountable' : 'private'],
    ['read-only', info.readOnly.reason ?? info.readOnly.strength],
    ['free', `${bytes(info.freeBytes)}, longest run ${bytes(info.largestFreeBytes)}`],
    ['quarantined', bytes(info.quarantinedBytes)],
  ]);
  const areas = info.areas.map(({ area, offset, size, used }) => [
    area,
    String(offset),
    bytes(size),
    used === undefined ? '-' : bytes(used),
  ]);
  return `${summary}\n\n${table(['AREA', 'OFFSET', 'SIZE', 'USED'], areas)}`;
}

/** The registry wants a writable mapping, also to look; nothing is written. */
async function withRegion<T>(options: RegionOptions, work: (region: Region, registry: Registry) => T): Promise<T> {
  const region = await Region.open({ path: pathOf(options) });
  try {
    return work(region, new Registry(region));
  } finally {
    region.close();
  }
}

async function info(options: RegionOptions): Promise<void> {
  const found = await withRegion(options, (region, registry) => regionView(region, registry).info());
  print(options.json ?? false, found, () => infoText(found));
}

async function create(options: CreateOptions): Promise<void> {
  const asked = options.size === undefined ? undefined : parseSize(options.size);
  const given = options.region ?? process.env.DAXSERVE_REGION;
  const chosen = given === undefined ? chooseDefault(asked) : null;
  const region = await Region.create({
    path: given ?? chosen?.path,
    size: asked ?? chosen?.sizeBytes,
    capacities: {
      ...(options.contents !== undefined && { contents: options.contents }),
      ...(options.names !== undefined && { names: options.names }),
    },
    overlayBytes: options.overlay === undefined ? undefined : parseSize(options.overlay),
    coherence: options.coherence,
    kernelMountable: options.kernelMountable,
    numa: options.numa === undefined ? undefined : parseNuma(options.numa),
    force: options.force,
  });
  try {
    const made = regionView(region, new Registry(region)).info();
    print(options.json ?? false, made, () => infoText(made));
  } finally {
    region.close();
  }
}

async function remove(options: RegionOptions & { yes?: boolean }): Promise<void> {
  const path = pathOf(options);
  if (!options.yes)
    throw serverError('SERVER_BAD_CONFIG', `This drops every model in ${path}; say --yes if that is meant.`);
  await deleteRegion({ path });
  print(options.json ?? false, { path, deleted: true }, () => `${path}  deleted`);
}

export function addRegionCommands(program: Command): void {
  const region = program.command('region').description('create, look at, check or delete a region');
  const on = (name: string, description: string) =>
    region
      .command(name)
      .description(description)
      .option('--region <path>', 'the region (DAXSERVE_REGION); the default one when absent')
      .option('--json', 'print JSON');
  on('create', 'make a region')
    .option('--size <size>', 'such as 8G')
    .option('--overlay <size>', 'overlay of the front')
    .option('--contents <n>', 'contents at most; one per 4 MiB, 256 to 16384, when absent', Number)
    .option('--names <n>', 'names that can ever be used, a power of two; four per content when absent', Number)
    .addOption(new Option('--coherence <mode>', 'who keeps CPU caches alike').choices(['hardware', 'software']))
    .option('--kernel-mountable', 'a front that kernels may mount')
    .option('--numa <placement>', 'interleave or bind:N')
    .option('--force', 'replace a region that nobody uses')
    .action(create);
  on('info', 'what is in force').action(info);
  addRegionCheck(on('check', 'verify every rule of header, rows, chunks, names, images and front'), pathOf);
  on('delete', 'drop the region and every model in it').option('--yes', 'really').action(remove);
}
