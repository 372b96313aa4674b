/** Models: what loads, lists and progress events carry. */
import Type, { type Static } from 'typebox';
import type { LoadRequest, Model as ModelShape } from '../services.ts';
import {
  type Assert,
  Digest,
  integer,
  ModelName,
  nullable,
  oneOf,
  pageQuery,
  type Same,
  strict,
  text,
  time,
} from './common.ts';

export const ModelState = oneOf(
  ['loading', 'ready', 'failed', 'cancelled', 'draining', 'quarantined'],
  'a failed or cancelled load is repeated by posting again',
);
const Placement = oneOf(['resident', 'cached'], 'resident: whole, in images; cached: blocks come and go');

const Progress = Type.Object({
  phase: oneOf(
    ['resolving', 'waiting', 'scanning', 'allocating', 'copying', 'verifying', 'publishing', 'done'],
    'what the load is doing; waiting: for its turn, or for another host that loads the same source',
  ),
  bytesDone: integer('bytes copied'),
  bytesTotal: integer('bytes to copy; 0 while unknown'),
  bytesPerSecond: Type.Number({ minimum: 0, description: 'current rate' }),
  etaSeconds: nullable(Type.Number({ minimum: 0, description: 'seconds to go; null while unknown' })),
});

export const ModelFile = Type.Object({
  path: text('path in the model'),
  size: integer('bytes'),
  digest: text('XXH3-128 of the file, 32 hex digits'),
});

export const Model = Type.Object({
  name: text('name without tag'),
  tag: text('tag'),
  revision: nullable(text("the source's own version word")),
  digest: nullable(text('SHA-256 over the sorted list of (path, size, XXH3-128); null while loading')),
  state: ModelState,
  placement: Placement,
  format: nullable(text('safetensors, gguf, ...')),
  bytes: integer('sum of the file sizes'),
  tensorCount: integer('tensors'),
  files: Type.Optional(Type.Array(ModelFile, { description: 'not in lists' })),
  progress: Progress,
  leases: integer('rights of workers to the content'),
  keep: Type.Boolean({ description: 'never evicted' }),
  createdAt: time('when the load was asked for'),
  readyAt: nullable(time('when the content was published')),
  lastAccessAt: nullable(time('last attach')),
  loadSeconds: nullable(Type.Number({ minimum: 0, description: 'duration of the load' })),
  phases: Type.Record(Type.String(), Type.Number(), {
    description: 'seconds by phase; empty for what an earlier service loaded',
  }),
  error: Type.Optional(
    Type.Object({
      code: text('code of the failure'),
      detail: text('what happened'),
      offset: Type.Optional(integer('byte of the file at which a rule broke')),
      extra: Type.Optional(
        Type.Record(Type.String(), Type.Unknown(), { description: 'further members, such as what is free' }),
      ),
    }),
  ),
});
export type ModelMatchesService = Assert<Same<Static<typeof Model>, ModelShape>>;

const Patterns = Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { maxItems: 64 });

export const LoadBody = strict({
  source: Type.String({
    minLength: 1,
    maxLength: 4096,
    // A NUL or a line break in a path is never meant.
    pattern: '^[^\\u0000-\\u001f]+$',
    description: 'path or URL of the model',
  }),
  name: Type.Optional(ModelName),
  revision: Type.Optional(Type.String({ minLength: 1, maxLength: 96, description: 'the version wanted' })),
  placement: Type.Optional(Placement),
  verify: Type.Optional(Type.Boolean({ description: 'read the bytes back and compare before publishing' })),
  keep: Type.Optional(Type.Boolean({ description: 'never evict the content' })),
  include: Type.Optional(Patterns),
  exclude: Type.Optional(Patterns),
});
export type LoadMatchesService = Assert<Same<Static<typeof LoadBody>, LoadRequest>>;

export const LoadQuery = strict({
  wait: Type.Optional(Type.Boolean({ description: 'answer when the load has ended' })),
});
export const ModelsQuery = strict({ ...pageQuery(1000, 100), state: Type.Optional(ModelState) });
export const ModelParams = strict({ name: ModelName });
export const DigestParams = strict({ digest: Digest });
export const RetargetBody = strict({ digest: Digest });
export const RemoveQuery = strict({
  drain: Type.Optional(Type.Boolean({ description: 'no new attaches; freed when the last worker is gone' })),
});
