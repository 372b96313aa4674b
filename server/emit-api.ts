/** Writes docs/API.md from the route schemas: `node dist/server/emit-api.js [--check]`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import pino from 'pino';
import { buildApp } from './app.ts';
import { ALL_CODES } from './codes.ts';
import { loadConfig } from './config.ts';
import { CONFIG_DEFAULTS, CONFIG_KEYS } from './config-schema.ts';
import { Lifecycle } from './lifecycle.ts';
import { Metrics } from './metrics.ts';
import { statusOf } from './problem.ts';

interface Schema {
  type?: string | string[];
  description?: string;
  enum?: string[];
  pattern?: string;
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
}
interface Operation {
  summary: string;
  description?: string;
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: Schema }> }>;
}
export interface ApiDocument {
  paths: Record<string, Record<string, Operation>>;
}

const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

function typeText(schema: Schema): string {
  const types = [schema.type ?? 'any'].flat();
  const inner = schema.items ? ` of ${typeText(schema.items)}` : '';
  const choices = schema.enum && schema.enum.length <= 8 ? ` (${schema.enum.join(', ')})` : '';
  const limits = [
    schema.minimum !== undefined && schema.maximum !== undefined ? `${schema.minimum}..${schema.maximum}` : '',
    schema.maxLength !== undefined ? `at most ${schema.maxLength} characters` : '',
  ].filter((text) => text !== '');
  return `${types.join(' or ')}${inner}${choices}${limits.length > 0 ? `, ${limits.join(', ')}` : ''}`;
}

/** Members of an object and of the objects in it, as dotted paths. */
function* members(schema: Schema, prefix = ''): Generator<[path: string, member: Schema, required: boolean]> {
  for (const [key, member] of Object.entries(schema.properties ?? {})) {
    const path = `${prefix}${key}`;
    yield [path, member, schema.required?.includes(key) ?? false];
    const nested = member.items?.properties ? member.items : member;
    yield* members(nested, nested === member ? `${path}.` : `${path}[].`);
  }
}

function memberTable(schema: Schema): string[] {
  const rows = [...members(schema)].map(
    ([path, member, required]) =>
      `| \`${path}\` | ${cell(typeText(member))} | ${required ? 'yes' : ''} | ${cell(member.description ?? '')} |`,
  );
  return ['| member | type | always | meaning |', '|---|---|---|---|', ...rows];
}

function parameterTable(operation: Operation): string[] {
  const rows = (operation.parameters ?? []).map(
    ({ name, in: place, schema, description }) =>
      `| \`${name}\` | ${place} | ${cell(typeText(schema))} | ${cell(description ?? schema.description ?? '')} |`,
  );
  return rows.length === 0 ? [] : ['| parameter | in | type | meaning |', '|---|---|---|---|', ...rows, ''];
}

function responseTable({ responses }: Operation): string[] {
  const rows = Object.entries(responses).map(([status, { description, content }]) => {
    const type = Object.keys(content ?? {})[0];
    const said = description === 'Default Response' ? '' : description;
    return `| ${status} | ${type ? `\`${type}\`` : ''} | ${cell(said)} |`;
  });
  return ['| status | body | meaning |', '|---|---|---|', ...rows, ''];
}

function operationText(method: string, path: string, operation: Operation): string[] {
  const body = operation.requestBody?.content['application/json']?.schema;
  const success = Object.entries(operation.responses).find(([status]) => status.startsWith('2'))?.[1];
  const answer = success?.content?.['application/json']?.schema;
  return [
    `### ${method.toUpperCase()} ${path}`,
    '',
    `${operation.summary}.`,
    '',
    ...parameterTable(operation),
    ...(body ? ['Body:', '', ...memberTable(body), ''] : []),
    ...responseTable(operation),
    ...(answer?.properties ? ['Answer:', '', ...memberTable(answer), ''] : []),
  ];
}

function optionTable(): string[] {
  const defaults: Partial<Record<string, unknown>> = CONFIG_DEFAULTS;
  const rows = [...CONFIG_KEYS].map(([key, { flag, env, doc }]) => {
    const value = defaults[key];
    const shown = value === undefined || (Array.isArray(value) && value.length === 0) ? '' : `\`${value}\``;
    return `| \`${flag}\` | \`${env}\` | ${shown} | ${cell(doc)} |`;
  });
  return ['| flag | environment | default | meaning |', '|---|---|---|---|', ...rows];
}

function codeTable(): string[] {
  const rows = Object.entries(ALL_CODES).map(
    ([code, { kind, title }]) => `| \`${code}\` | ${statusOf(code, kind)} | ${cell(title)} |`,
  );
  return ['| code | status | meaning |', '|---|---|---|', ...rows];
}

const SOCKET = [
  '## Worker socket',
  '',
  'A unix stream socket: `/run/daxserve/daxserve.sock`, for ordinary users `$XDG_RUNTIME_DIR/daxserve/daxserve.sock`.',
  'One JSON line each way, in UTF-8, at most 64 KiB in:',
  '',
  '```',
  '{"v":1,"op":"attach","model":"org/m","wait":true,"timeoutSeconds":600,"source":"/models/m"}',
  '{"v":1,"op":"attach","handle":"ID","token":"TOKEN"}',
  '```',
  '',
  'Beside `model` any member of the body of POST handles may stand. `wait` answers when the model is ready; `source` loads',
  'it when it is unknown. The answer is `{"ok":true,"handle":{...}}` with the descriptor of the region (SCM_RIGHTS, on the',
  'first byte), or `{"ok":false,"code":...,"error":...}` and the end. The lease lives as long as the connection: don\'t',
  'send anything more, and keep it open. The service may send `{"event":"draining"}`: the model is being removed; what is',
  'mapped stays valid. Map `PROT_READ, MAP_SHARED` at offsets rounded down to `region.mapAlignment`.',
  '',
  '`--socket-mode`, `--socket-group` and `--allow-uid` say who may connect; a user has 1024 connections at most, and a peer',
  'that sends no line within 10 seconds is let go. Whoever may connect may also load any `source` that lies under the',
  'source roots and that the service can read.',
  '',
];

/** The page for a document. */
export function apiMarkdown(document: ApiDocument): string {
  const calls = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) => operationText(method, path, operation)),
  );
  return `${[
    '# API reference',
    '',
    '<!-- Generated by server/emit-api.ts from the schemas; `npm run gen` writes it again. -->',
    '',
    'Base address `http://127.0.0.1:8420`; the same as OpenAPI on `/openapi.json`, to try on `/docs`.',
    'Lists are `{items, next?}`: give `next` as `?after=` for the next page. Sizes and offsets are bytes, times RFC 3339.',
    'Unknown keys in requests are refused; ignore unknown keys in answers. A `/` in a model name is written `%2F`.',
    'Where `--token-file` is given, send `Authorization: Bearer TOKEN`: scope `read` looks and leases, `admin` does all.',
    '',
    '## Calls',
    '',
    ...calls,
    ...SOCKET,
    '## Options of `daxserve serve`',
    '',
    'Flags win over the environment, which wins over `daxserve.toml` or `daxserve.json` in the working folder (or',
    '`--config FILE`). In the environment a list is separated by commas.',
    '',
    ...optionTable(),
    '',
    '## Error codes',
    '',
    'Errors are `application/problem+json` with `type`, `title`, `status`, `detail`, `code` and `error` (the same as',
    '`detail`). `GET /problems/{code}` explains one.',
    '',
    ...codeTable(),
  ].join('\n')}\n`;
}

/** The OpenAPI document of this build. */
export async function apiDocument(): Promise<ApiDocument> {
  const lifecycle = new Lifecycle();
  const deps = { lifecycle, metrics: new Metrics(lifecycle), logger: pino({ level: 'silent' }), clock: Date.now };
  const app = await buildApp(loadConfig({ folder: '/nonexistent' }), deps);
  await app.ready();
  const document = app.swagger() as unknown as ApiDocument;
  await app.close();
  return document;
}

function pagePath(): string {
  const fromDist = new URL('.', import.meta.url).pathname.endsWith('/dist/server/');
  return fileURLToPath(new URL(fromDist ? '../../docs/API.md' : '../docs/API.md', import.meta.url));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const page = apiMarkdown(await apiDocument());
  if (!process.argv.includes('--check')) writeFileSync(pagePath(), page);
  else if (readFileSync(pagePath(), 'utf8') !== page) {
    process.stderr.write('docs/API.md is not what the schemas say; run "npm run gen".\n');
    process.exitCode = 1;
  }
}
