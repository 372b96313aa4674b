/** JSON of values with very many items, made in pieces: the event loop gets its turn between them. */
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';

/** Lists of up to so many items are written in one go, within a millisecond. */
const itemsMax = 1000;
/** Characters of a piece. */
const pieceLength = 64 * 1024;

type Members = Readonly<Record<string, unknown>>;

const membersOf = (value: object): unknown[] => (Array.isArray(value) ? value : Object.values(value));

/** Is there a list of very many items, in the value or below it? */
function isLong(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const members = membersOf(value);
  return members.length > itemsMax || members.some(isLong);
}

function* listText(items: readonly unknown[]): Generator<string> {
  for (const [i, item] of items.entries()) {
    yield i === 0 ? '[' : ',';
    yield* jsonText(item);
  }
  yield ']';
}

function* objectText(members: Members): Generator<string> {
  let before = '{';
  for (const [name, member] of Object.entries(members)) {
    if (member === undefined) continue;
    yield `${before}${JSON.stringify(name)}:`;
    yield* jsonText(member);
    before = ',';
  }
  yield '}';
}

/** The text of `JSON.stringify(value)`, what is not long in one part. */
function* jsonText(value: unknown): Generator<string> {
  if (!isLong(value)) yield JSON.stringify(value);
  else if (Array.isArray(value)) yield* listText(value);
  else yield* objectText(value as Members);
}

/** `JSON.stringify(value)` and `end`, in UTF-8: one piece unless the value is long. It must not change meanwhile. */
export async function* jsonPieces(value: unknown, end = ''): AsyncGenerator<Buffer> {
  let text = '';
  for (const part of jsonText(value)) {
    text += part;
    if (text.length < pieceLength) continue;
    yield Buffer.from(text);
    text = '';
    await turn();
  }
  yield Buffer.from(text + end);
}

/** Answers with a value that may be long: as it is, for Fastify to write by the schema, or as a stream of its JSON. */
export function answer<T>(reply: FastifyReply, value: T): T {
  if (!isLong(value)) return value;
  reply.type('application/json; charset=utf-8');
  return Readable.from(jsonPieces(value), { objectMode: false }) as T;
}
