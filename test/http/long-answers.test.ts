/** Goal: answers with very many items are the same JSON as short ones. Method: stub services with lists on both sides of the limit. */
import { expect, it } from 'vitest';
import type { Handle, ModelFile } from '../../server/services.ts';
import { DIGEST, handle, model, stubServices } from '../support/stub-services.ts';
import { testApp } from '../support/web.ts';

const digest = '00'.repeat(16);
const listed = (count: number): ModelFile[] =>
  Array.from({ length: count }, (_, i) => ({ path: `dir "${i}"/ü`, size: i, digest }));

async function appWith(count: number) {
  const files = listed(count);
  const tensors = files.map(({ path, size }) => ({
    name: path,
    dtype: 'F32' as const,
    shape: [size],
    file: path,
    offset: 0,
    length: 4 * size,
  }));
  const shown: Handle = handle({ buffers: [{ size: 1 << 30, files: files.map((f) => ({ ...f, extents: [] })) }] });
  const services = stubServices({
    store: {
      get: async () => model({ files }),
      getByDigest: async () => model({ files }),
      retarget: async () => model({ files }),
      tensors: async () => tensors,
    },
    leases: {
      reserve: async () => ({ ...shown, token: 'secret' }),
      page: () => ({ items: [{ ...shown, worker: null }] }),
      renew: () => shown,
    },
  });
  const { app } = await testApp(services);
  return { app, files, tensors, shown };
}

it.each([0, 1000, 1001, 5000])('%i files in each answer', async (count) => {
  const { app, files, tensors, shown } = await appWith(count);
  const body = { digest: DIGEST };
  const answers = [
    { request: { method: 'GET', url: '/models/m' }, expected: model({ files }) },
    { request: { method: 'GET', url: `/models/by-digest/${DIGEST}` }, expected: model({ files }) },
    { request: { method: 'PUT', url: '/models/m', body }, expected: model({ files }) },
    { request: { method: 'GET', url: '/models/m/tensors?limit=10000' }, expected: { items: tensors } },
    { request: { method: 'POST', url: '/models/m/handles', body: {} }, expected: { ...shown, token: 'secret' } },
    { request: { method: 'GET', url: '/handles' }, expected: { items: [{ ...shown, worker: null }] } },
    { request: { method: 'PUT', url: '/handles/h1', body: { ttlSeconds: 5 } }, expected: shown },
  ] as const;
  for (const { request, expected } of answers) {
    const reply = await app.inject({ ...request, headers: { host: '127.0.0.1:8420' } });
    expect(reply.headers['content-type']).toBe('application/json; charset=utf-8');
    expect(JSON.parse(reply.body)).toEqual(JSON.parse(JSON.stringify(expected)));
  }
  const head = await app.inject({ method: 'HEAD', url: '/models/m', headers: { host: '127.0.0.1:8420' } });
  expect([head.statusCode, head.body]).toEqual([200, '']);
});
