/** The region and who is attached to it. */
import Type, { type Static } from 'typebox';
import { integer, nullable, oneOf, pageQuery, strict, text, time } from './common.ts';

export const Area = Type.Object({
  area: oneOf(['front', 'registry', 'chunks'], 'part of the region'),
  offset: integer('bytes from the start of the region'),
  size: integer('bytes'),
  used: Type.Optional(
    integer('bytes in use; of the front, up to the last that was ever used; absent where nothing counts them'),
  ),
});

export const RegionInfo = Type.Object({
  uuid: text('names the region'),
  path: nullable(text('null for a descriptor')),
  backing: text('kind of memory: tmpfs, hugetlbfs, file, devdax, memfd'),
  size: integer('bytes'),
  pageBytes: integer('size of the memory pages in force'),
  numa: nullable(text('memory policy in force, such as interleave:0-1')),
  mapAlignment: integer('offsets of a mapping are multiples of this many bytes'),
  formatVersion: integer('version of the registry format'),
  createdAt: time('when the region was created'),
  coherence: oneOf(['hardware', 'software'], 'who keeps the CPU caches of the hosts alike'),
  kernelMountable: Type.Boolean({ description: 'a kernel with the module may mount the front' }),
  readOnly: Type.Object({
    strength: oneOf(['enforced', 'advisory'], 'whether a worker is able to reopen its descriptor for writing'),
    reason: nullable(text('why it is only advisory')),
  }),
  areas: Type.Array(Area),
  capacities: Type.Object({
    hosts: integer('services'),
    contents: integer('contents'),
    names: integer('names'),
    intents: integer('front operations in flight'),
  }),
  chunkBytes: integer('unit of allocation'),
  freeBytes: integer('free chunks'),
  largestFreeBytes: integer('longest run of free chunks'),
  quarantinedBytes: integer('chunks that are not reused because a host may still write them'),
});
export type RegionInfo = Static<typeof RegionInfo>;

export const HostState = oneOf(['live', 'lapsed', 'recovering'], 'lapsed: silent, its workers may live');
export const HostInfo = Type.Object({
  row: integer('row of the registry'),
  name: text('host id'),
  state: HostState,
  self: Type.Boolean({ description: 'this service' }),
  generation: integer('grows at every attach'),
  bootId: text('the kernel'),
  pid: integer('process id in its own namespace'),
  attachedAt: time('when it attached'),
});
export type HostInfo = Static<typeof HostInfo>;

export const HostParams = strict({ name: Type.String({ minLength: 1, maxLength: 64, description: 'host id' }) });
export const FencedHost = Type.Object({
  name: text('host id'),
  contents: integer('loads of it that were undone'),
  chunks: integer('chunks given back'),
  names: integer('unfinished changes of names'),
  pins: integer('contents that it held for its workers'),
});
export type FencedHost = Static<typeof FencedHost>;

export const HostsQuery = strict(pageQuery(100, 100));

export const Health = Type.Object({
  status: text('ok, starting or stopping'),
  version: text('version of the service'),
  uptimeSeconds: Type.Number({ minimum: 0 }),
});
export const Ready = Type.Object({ status: text('ready'), region: text('uuid of the region') });
