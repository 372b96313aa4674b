/** Every option of the service: one schema for flags, environment, file and defaults. */
import Type, { type Static, type TSchema } from 'typebox';

const Size = (description: string) =>
  Type.String({ pattern: '^[0-9]+(\\.[0-9]+)?\\s*([KMGT]i?B?|B|%)?$', description: `${description}; 8G, 512M, 50%` });
const Address = (description: string) =>
  Type.String({ pattern: '^(\\[[0-9A-Fa-f:.]+\\]|[^:\\s]+):[0-9]{1,5}$', description: `${description}, HOST:PORT` });
const Path = (description: string) => Type.String({ minLength: 1, description });
const Strings = (description: string) => Type.Array(Type.String({ minLength: 1 }), { description });
const Choice = <const T extends string[]>(values: readonly [...T], description: string) =>
  Type.Enum(values, { type: 'string', description: `${description}: ${values.join(', ')}` });

export const ConfigSchema = Type.Object(
  {
    region: Type.Optional(Path('the region: a file, a device-dax device, or fd:N; the fastest memory when absent')),
    size: Type.Optional(Size('size of a region that has to be created')),
    onMismatch: Choice(['fail', 'recreate'], 'what to do with a region of another format'),
    listen: Address('address of the API'),
    opsListen: Type.Optional(Address('second address with healthz, readyz and metrics only')),
    socket: Type.Optional(Path('path of the worker socket')),
    socketMode: Type.Optional(
      Type.String({ pattern: '^0?[0-7]{3}$', description: 'mode of the worker socket, octal' }),
    ),
    socketGroup: Type.Optional(
      Type.String({ minLength: 1, description: 'group of the worker socket, name or number' }),
    ),
    allowUid: Type.Array(Type.Integer({ minimum: 0, maximum: 4294967294 }), {
      description: 'only these users (and our own, and root) may attach',
    }),
    hostId: Type.Optional(
      Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$', description: 'name of this instance in the region' }),
    ),
    pageCache: Type.Optional(Size('chunks for cached contents')),
    overlay: Type.Optional(Size('overlay of the front')),
    coherence: Choice(['hardware', 'software'], 'who keeps the CPU caches of the hosts alike'),
    kernelMountable: Type.Boolean({ description: 'a front that kernels may mount' }),
    sourceRoot: Strings('folders that sources may lie in; hub cache, home and working folder when absent'),
    sourceHost: Strings('hosts that sources may come from'),
    tokenFile: Type.Optional(Path('file of `scope token` lines; scopes read and admin')),
    allowHost: Strings('further names for the Host header'),
    allowOrigin: Strings('further origins that may call from a browser'),
    numa: Type.Optional(
      Type.String({ pattern: '^(interleave|bind:[0-9]{1,4})$', description: 'NUMA placement: interleave or bind:N' }),
    ),
    handles: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'leases at most' }),
    evict: Type.Boolean({ description: 'drop least recently used contents when a load needs room' }),
    deadAfter: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 604_800,
        description: 'seconds of silence that prove a host of another kernel gone; never when absent',
      }),
    ),
    logLevel: Choice(
      ['auto', 'trace', 'debug', 'info', 'warn', 'error', 'silent'],
      'what the log on standard error carries; auto is warn on a terminal, info elsewhere',
    ),
  },
  { additionalProperties: false },
);
export type ConfigValues = Static<typeof ConfigSchema>;
export type ConfigKey = keyof ConfigValues;

export const CONFIG_DEFAULTS = {
  onMismatch: 'fail',
  listen: '127.0.0.1:8420',
  allowUid: [],
  coherence: 'hardware',
  kernelMountable: false,
  sourceRoot: [],
  sourceHost: [],
  allowHost: [],
  allowOrigin: [],
  handles: 65536,
  evict: false,
  logLevel: 'auto',
} as const satisfies Partial<Record<ConfigKey, unknown>>;

/** Keys whose value is never printed. A token file is only a path, its lines never reach the configuration. */
export const CONFIG_SECRETS: readonly ConfigKey[] = ['tokenFile'];

/** How text (a flag, the environment) becomes a value of this key. */
export type ValueKind = 'flag' | 'number' | 'list' | 'numbers' | 'text';

function kindOf(schema: TSchema): ValueKind {
  const { type, items } = schema as { type?: string; items?: { type?: string } };
  if (type === 'boolean') return 'flag';
  if (type === 'integer') return 'number';
  if (type !== 'array') return 'text';
  return items?.type === 'integer' ? 'numbers' : 'list';
}

/** Every key with its kind, its sentence, and its spelling as a flag and in the environment. */
export const CONFIG_KEYS: ReadonlyMap<string, { kind: ValueKind; doc: string; flag: string; env: string }> = new Map(
  Object.entries(ConfigSchema.properties).map(([key, schema]) => {
    const words = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const doc = (schema as { description?: string }).description ?? '';
    const env = `DAXSERVE_${words.replaceAll('-', '_').toUpperCase()}`;
    return [key, { kind: kindOf(schema), doc, flag: `--${words}`, env }];
  }),
);
