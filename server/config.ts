/** The configuration: flags > DAXSERVE_* environment > daxserve.toml or .json > defaults; one frozen object. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseToml } from 'smol-toml';
import { Compile } from 'typebox/compile';
import {
  CONFIG_DEFAULTS,
  CONFIG_KEYS,
  CONFIG_SECRETS,
  type ConfigKey,
  ConfigSchema,
  type ConfigValues,
  type ValueKind,
} from './config-schema.ts';
import { type ServerError, serverError } from './errors.ts';
import { nearest } from './nearest.ts';
import { firstFault } from './validate.ts';

export type Config = Readonly<ConfigValues>;

/** Where the values come from; tests hand in their own. */
export interface ConfigSources {
  /** Options from the command line, keys in camelCase. */
  flags?: Record<string, unknown>;
  env?: NodeJS.ProcessEnv;
  /** Folder that is searched for daxserve.toml and daxserve.json. */
  folder?: string;
  /** A file named by --config; it must exist. */
  file?: string;
}

/** Read by the commands, the workers and the tests, not part of the service's configuration. */
const OTHER_VARIABLES = ['DAXSERVE_URL', 'DAXSERVE_TOKEN', 'DAXSERVE_CONFIG', 'DAXSERVE_SEED'];
// Kubernetes sets these for a Service that is called daxserve; `DAXSERVE_TEST_` belongs to the test suite.
const FOREIGN_VARIABLE = /^DAXSERVE_(PORT(_.*)?|SERVICE_(HOST|PORT(_.*)?)|TEST_.*)$/;

const check = Compile(ConfigSchema);

function refuse(message: string, cause?: unknown): ServerError {
  return serverError('SERVER_BAD_CONFIG', message, cause === undefined ? {} : { cause });
}

function fromText(kind: ValueKind, text: string, where: string): unknown {
  if (kind === 'text') return text;
  if (kind === 'number') return /^\d+$/.test(text) ? Number(text) : text;
  if (kind === 'flag') return booleanOf(text, where);
  const items = text.split(',').map((item) => item.trim());
  const kept = items.filter((item) => item !== '');
  return kind === 'numbers' ? kept.map((item) => (/^\d+$/.test(item) ? Number(item) : item)) : kept;
}

function booleanOf(text: string, where: string): boolean {
  const word = text.toLowerCase();
  if (['1', 'true', 'yes', 'on'].includes(word)) return true;
  if (['0', 'false', 'no', 'off', ''].includes(word)) return false;
  throw refuse(`${where} is "${text}": write true or false.`);
}

function readEnvironment(env: NodeJS.ProcessEnv): Record<string, unknown> {
  const byVariable = new Map([...CONFIG_KEYS].map(([key, spec]) => [spec.env, { key, kind: spec.kind }]));
  const values: Record<string, unknown> = {};
  for (const [variable, text] of Object.entries(env)) {
    if (!variable.startsWith('DAXSERVE_') || text === undefined) continue;
    const known = byVariable.get(variable);
    if (known) values[known.key] = fromText(known.kind, text, variable);
    else if (!OTHER_VARIABLES.includes(variable) && !FOREIGN_VARIABLE.test(variable))
      throw refuse(
        `The environment variable ${variable} is not known; did you mean ${nearest(variable, byVariable.keys())}?`,
      );
  }
  return values;
}

function findFile(sources: ConfigSources): string | undefined {
  const named = sources.file ?? sources.env?.DAXSERVE_CONFIG;
  if (named !== undefined) return named;
  const folder = sources.folder ?? process.cwd();
  return ['daxserve.toml', 'daxserve.json'].map((name) => join(folder, name)).find((path) => existsSync(path));
}

function parseFile(path: string): Record<string, unknown> {
  try {
    const text = readFileSync(path, 'utf8');
    const parsed: unknown = path.endsWith('.json') ? JSON.parse(text) : parseToml(text);
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return { ...parsed };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw refuse(`The configuration file ${path} cannot be read: ${reason}`, cause);
  }
  throw refuse(`The configuration file ${path} must hold a table of keys.`);
}

function readFile(path: string): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [written, value] of Object.entries(parseFile(path))) {
    // TOML users write source-root or source_root, JSON users sourceRoot.
    const key = written.replace(/[-_]([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (!CONFIG_KEYS.has(key))
      throw refuse(`${path}: the key ${written} is not known; did you mean ${nearest(key, CONFIG_KEYS.keys())}?`);
    values[key] = value;
  }
  return values;
}

function definedOnly(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function validate(values: Record<string, unknown>): ConfigValues {
  for (const key of ['size', 'pageCache', 'overlay'])
    if (typeof values[key] === 'number') values[key] = String(values[key]);
  if (check.Check(values)) return values;
  const { path, message } = firstFault(check.Errors(values));
  const key = path.split('/')[1] ?? '';
  const spec = CONFIG_KEYS.get(key);
  if (!spec) throw refuse(`The option ${key} is not known; did you mean ${nearest(key, CONFIG_KEYS.keys())}?`);
  const shown = CONFIG_SECRETS.includes(key as ConfigKey) ? '***' : JSON.stringify(values[key]);
  throw refuse(`${spec.flag} (${spec.env}) is ${shown}, which ${message}: ${spec.doc}.`);
}

/** Collects, checks and freezes. @throws ServerError SERVER_BAD_CONFIG with the key, the value and what is wanted */
export function loadConfig(sources: ConfigSources = {}): Config {
  const file = findFile(sources);
  const values = validate({
    ...structuredClone(CONFIG_DEFAULTS),
    ...(file === undefined ? {} : readFile(file)),
    ...readEnvironment(sources.env ?? {}),
    ...definedOnly(sources.flags ?? {}),
  });
  for (const value of Object.values(values)) if (Array.isArray(value)) Object.freeze(value);
  return Object.freeze(values);
}

/** The configuration for the log: secrets masked. */
export function printable(config: Config): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => [key, CONFIG_SECRETS.includes(key as ConfigKey) ? '***' : value]),
  );
}
