/** Checks of request parts against their TypeBox schemas, with the place in the refusal. */
import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import Value from 'typebox/value';
import { NAME_RULE } from '../loaders/name.ts';
import { serverError } from './errors.ts';
import { DIGEST_PATTERN, MODEL_NAME_PATTERN } from './schemas/common.ts';

interface SchemaFault {
  keyword: string;
  instancePath: string;
  params: object;
  message: string;
}

/** Nobody should have to read a regular expression. */
const PATTERNS: Partial<Record<string, string>> = {
  [MODEL_NAME_PATTERN]: `is no model name; use ${NAME_RULE}`,
  [DIGEST_PATTERN]: 'is no digest of a content; use the 64 hex digits that GET /models shows',
};

/** The most telling fault: a deep one before its parent's summary, an unknown key by name. */
export function firstFault(faults: readonly SchemaFault[]): { path: string; message: string } {
  const first = faults[0];
  if (!first) return { path: '', message: 'is not valid' };
  if (first.keyword === 'boolean') return { path: first.instancePath, message: 'is not known; remove it' };
  const { allowedValues: allowed, pattern } = first.params as { allowedValues?: unknown[]; pattern?: string | RegExp };
  const rule = pattern === undefined ? undefined : PATTERNS[String(pattern)];
  if (rule !== undefined) return { path: first.instancePath, message: rule };
  const suffix = allowed ? ` (${allowed.join(', ')})` : '';
  return { path: first.instancePath, message: `${first.message}${suffix}` };
}

/** Fastify's words for request parts -> ours. */
const PLACES: Partial<Record<string, string>> = { body: 'body', querystring: 'query', params: 'path' };

/** Fastify's validator compiler: bodies as they are; query and path, which are text, converted where they do not fit so. */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const check = Compile(schema);
  return (value: unknown) => {
    if (check.Check(value)) return { value };
    const converted = httpPart === 'body' ? value : Value.Convert(schema, value);
    if (check.Check(converted)) return { value: converted };
    const { path, message } = firstFault(check.Errors(converted));
    const place = `${PLACES[httpPart ?? ''] ?? 'request'}${path}`;
    return { error: serverError('SERVER_BAD_REQUEST', `${place} ${message}.`, { extra: { place } }) };
  };
};
