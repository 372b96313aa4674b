/** Handles: where the bytes of a model are, and the lease that goes with them. */
import Type, { type Static } from 'typebox';
import type { HandleRequest, Handle as HandleShape } from '../services.ts';
import {
  type Assert,
  Digest,
  integer,
  nullable,
  oneOf,
  pageQuery,
  type Same,
  strict,
  TtlSeconds,
  text,
  time,
} from './common.ts';
import { ModelFile } from './model.ts';

const HandleKind = oneOf(['mmap', 'dmabuf'], 'how the bytes are handed out');

const HandleFile = Type.Object({
  ...ModelFile.properties,
  extents: Type.Array(
    Type.Object({
      fileOffset: integer('bytes from the start of the file'),
      bufferOffset: integer('bytes from the start of the buffer'),
      length: integer('bytes'),
    }),
  ),
});

export const Handle = Type.Object({
  id: text('names the lease'),
  token: Type.Optional(text('proves the right to attach; only in the answer that creates the handle')),
  kind: HandleKind,
  model: text('name:tag'),
  revision: nullable(text("the source's own version word")),
  digest: text('digest of the content'),
  region: Type.Object({
    uuid: text('names the region'),
    path: nullable(text('where the region is; null for a descriptor')),
    size: integer('bytes'),
    mapAlignment: integer('offsets of a mapping are multiples of this many bytes'),
  }),
  socket: nullable(text('path of the worker socket')),
  buffers: Type.Array(Type.Object({ size: integer('bytes'), files: Type.Array(HandleFile) }), {
    description: 'one for mmap: the region; in the order of the descriptors',
  }),
  manifest: Type.Enum(['.daxserve/manifest.json'], {
    type: 'string',
    description: 'the file that lists files, tensors and digests',
  }),
  expiresAt: nullable(time('null while a connection holds the lease')),
});
export type HandleMatchesService = Assert<Same<Static<typeof Handle>, HandleShape>>;

export const HandleInList = Type.Object({
  ...Handle.properties,
  worker: Type.Unsafe<{ pid: number; uid: number } | null>({
    type: ['object', 'null'],
    description: 'who holds it; null until attached; pid 0 = a process that this kernel does not show us',
    properties: { pid: { type: 'integer' }, uid: { type: 'integer' } },
  }),
});

export const HandleBody = strict({
  kind: Type.Optional(HandleKind),
  tensors: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { minItems: 1, maxItems: 65536 })),
  files: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), { minItems: 1, maxItems: 65536 })),
  revision: Type.Optional(Type.String({ minLength: 1, maxLength: 96, description: 'refuse another revision' })),
  digest: Type.Optional(Digest),
  ttlSeconds: Type.Optional(TtlSeconds),
});
export type HandleBodyMatchesService = Assert<Same<Static<typeof HandleBody>, HandleRequest>>;

export const HandlesQuery = strict(pageQuery(1000, 100));
export const HandleParams = strict({ id: Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' }) });
export const RenewBody = strict({ ttlSeconds: TtlSeconds });
