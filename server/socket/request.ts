/** The one line that a worker sends. */
import Type, { type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { serverError } from '../errors.ts';
import { ModelName, strict } from '../schemas/common.ts';
import { HandleBody, HandleParams } from '../schemas/handle.ts';
import { LoadBody } from '../schemas/model.ts';
import { firstFault } from '../validate.ts';

const envelope = { v: Type.Literal(1), op: Type.Literal('attach') };

const AttachModel = strict({
  ...envelope,
  model: ModelName,
  ...HandleBody.properties,
  wait: Type.Optional(Type.Boolean()),
  timeoutSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 604_800 })),
  source: Type.Optional(LoadBody.properties.source),
});
export type AttachModel = Static<typeof AttachModel>;

const AttachHandle = strict({
  ...envelope,
  handle: HandleParams.properties.id,
  token: Type.String({ minLength: 1, maxLength: 256 }),
});
export type AttachHandle = Static<typeof AttachHandle>;

const checkModel = Compile(AttachModel);
const checkHandle = Compile(AttachHandle);

function refuse(message: string): Error {
  return serverError('SOCKET_BAD_LINE', message);
}

function parse(line: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    // fatal: bytes that are no UTF-8 must not turn into some other name.
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line));
  } catch {
    throw refuse('The line is not JSON in UTF-8; send one JSON object and a newline.');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refuse('The line is not a JSON object; send {"v":1,"op":"attach","model":...}.');
  return value as Record<string, unknown>;
}

/** @throws ServerError SOCKET_BAD_LINE that names the key */
export function parseRequest(line: Buffer): AttachModel | AttachHandle {
  const value = parse(line);
  if (value.v !== 1) throw refuse('This service speaks version 1 of the worker protocol; send "v":1.');
  if (value.op !== 'attach') throw refuse('The op is not known; the only one is "attach".');
  const byHandle = Object.hasOwn(value, 'handle');
  if (!byHandle && checkModel.Check(value)) return value;
  if (byHandle && checkHandle.Check(value)) return value;
  const { path, message } = firstFault((byHandle ? checkHandle : checkModel).Errors(value));
  throw refuse(`The line${path} ${message}.`);
}
