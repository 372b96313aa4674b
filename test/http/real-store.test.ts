/**
 * Goal: the HTTP API over the real store and lease book says what happened, with the status of the design.
 * Method: `inject` into an app on a region in shared memory.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Compile } from 'typebox/compile';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { regionView } from '../../server/region-view.ts';
import { Handle } from '../../server/schemas/handle.ts';
import { Model } from '../../server/schemas/model.ts';
import { RegionInfo } from '../../server/schemas/region.ts';
import type { App } from '../../server/web.ts';
import { TestStore } from '../support/store.ts';
import { buildTestApp, testDeps } from '../support/web.ts';

let made: TestStore;
let app: App;

beforeAll(async () => {
  made = await TestStore.open({ mib: 64 });
  const { registry } = made.opened;
  app = (await buildTestApp(testDeps({ ...made.opened, region: regionView(made.region, registry) }))).app;
});

afterAll(async () => {
  await app.close();
  await made.dispose();
});

async function call(method: 'GET' | 'POST' | 'PUT' | 'DELETE', url: string, payload?: object) {
  const response = await app.inject({ method, url, ...(payload && { payload }) });
  const body = response.body ? (response.json() as Record<string, unknown>) : {};
  return { status: response.statusCode, code: body.code, body, headers: response.headers };
}

test('load, find, join, look up', async () => {
  const source = made.model('one', 2);
  const first = await call('POST', '/models', { source, name: 'org/one' });
  expect([first.status, first.headers.location]).toEqual([202, '/models/org%2Fone']);
  const waited = await call('POST', '/models?wait=true', { source, name: 'org/one' });
  expect([200, 201]).toContain(waited.status);
  const again = await call('POST', '/models', { source, name: 'org/one' });
  expect([again.status, again.body.state]).toEqual([200, 'ready']);

  const { body } = await call('GET', '/models/org%2Fone');
  expect(Compile(Model).Check(body)).toBe(true);
  expect(Object.keys(body.phases as object)).toEqual(expect.arrayContaining(['scanning', 'copying', 'publishing']));
  expect(body).toMatchObject({ name: 'org/one', tag: 'latest', state: 'ready', tensorCount: 4, format: 'safetensors' });
  expect((await call('GET', '/models/org%2Fone:latest')).body).toEqual(body);
  expect((await call('GET', `/models/by-digest/${body.digest}`)).body.digest).toBe(body.digest);
  const tensors = await call('GET', '/models/org%2Fone/tensors?limit=3');
  expect(tensors.body).toMatchObject({ items: [{ dtype: 'BF16' }, {}, {}], next: expect.any(String) });
  const { items } = (await call('GET', '/models')).body as { items: object[] };
  expect(items[0]).not.toHaveProperty('files');
});

test('what cannot be loaded', async () => {
  const load = (source: string, more: object = {}) => call('POST', '/models?wait=true', { source, ...more });
  expect(await load(join(made.dir, 'missing'))).toMatchObject({ status: 404, code: 'SOURCE_NOT_FOUND' });
  expect(await load('/etc/hostname')).toMatchObject({ status: 403, code: 'SOURCE_OUTSIDE_ROOTS' });
  symlinkSync('/etc', join(made.dir, 'way-out'));
  expect(await load(join(made.dir, 'way-out/hostname'))).toMatchObject({ status: 403, code: 'SOURCE_OUTSIDE_ROOTS' });
  mkdirSync(join(made.dir, 'broken'));
  writeFileSync(join(made.dir, 'broken/model.safetensors'), Buffer.alloc(100, 0xff));
  expect(await load(join(made.dir, 'broken'))).toMatchObject({ status: 422, body: { offset: 0 } });
  expect((await call('GET', '/models/broken')).body).toMatchObject({
    state: 'failed',
    error: { code: expect.any(String), offset: 0 },
  });
  expect(await load(made.model('huge', 100))).toMatchObject({
    status: 507,
    body: {
      code: 'INGEST_NO_ROOM',
      freeBytes: expect.any(Number),
      largestFreeRunBytes: expect.any(Number),
      evictableBytes: expect.any(Number),
    },
  });
  expect(await load(made.model('cached', 1), { placement: 'cached' })).toMatchObject({ status: 501 });
  expect(await load('ftp://example.org/x')).toMatchObject({ status: 501 });
  const taken = await load(made.model('two', 1, 2), { name: 'org/one' });
  expect(taken).toMatchObject({ status: 409, code: 'MODEL_NAME_TAKEN' });
});

test('handles: reserve, list, renew, release', async () => {
  const got = await call('POST', '/models/org%2Fone/handles', { ttlSeconds: 30 });
  expect(got).toMatchObject({ status: 201, body: { model: 'org/one:latest', token: expect.any(String) } });
  expect([...Compile(Handle).Errors(got.body)]).toEqual([]);
  const id = String(got.body.id);
  // The answer is put together from texts; what is listed goes through the schema's serializer.
  const { token: _, ...shown } = got.body;
  const [entry] = ((await call('GET', '/handles')).body as { items: Record<string, unknown>[] }).items;
  expect({ ...entry }).toEqual({ ...shown, worker: null });
  const [{ files }] = got.body.buffers as [{ files: { path: string }[] }];
  const path = files.at(-1)!.path;
  const other = await call('POST', '/models/org%2Fone/handles', { files: [path] });
  expect(other.body).toMatchObject({ buffers: [{ files: [{ path: '.daxserve/manifest.json' }, { path }] }] });
  await call('DELETE', `/handles/${other.body.id}`);
  const listed = (await call('GET', '/handles')).body as { items: { id: string; worker: null }[] };
  expect(listed.items).toMatchObject([{ id, worker: null }]);
  expect(JSON.stringify(listed)).not.toContain(String(got.body.token));
  expect(await call('PUT', `/handles/${id}`, { ttlSeconds: 60 })).toMatchObject({ status: 200, body: { id } });
  expect(await call('DELETE', '/models/org%2Fone')).toMatchObject({ status: 409, code: 'MODEL_LEASED' });
  expect((await call('DELETE', `/handles/${id}`)).status).toBe(204);
  expect(await call('DELETE', `/handles/${id}`)).toMatchObject({ status: 410, code: 'HANDLE_EXPIRED' });
  expect(await call('PUT', `/handles/${id}`, { ttlSeconds: 60 })).toMatchObject({ status: 410 });
  expect(await call('DELETE', '/handles/unknown')).toMatchObject({ status: 404 });
  expect(await call('POST', '/models/none/handles', {})).toMatchObject({ status: 404 });
  expect(await call('POST', '/models/broken/handles', {})).toMatchObject({ status: 409 });
  expect(await call('POST', '/models/org%2Fone/handles', { kind: 'dmabuf' })).toMatchObject({ status: 501 });
  expect(await call('POST', '/models/org%2Fone/handles', { tensors: ['nope'] })).toMatchObject({ status: 404 });
  expect(await call('POST', '/models/org%2Fone/handles', { digest: '0'.repeat(64) })).toMatchObject({ status: 409 });
});

test('a name moves, and models go', async () => {
  await call('POST', '/models?wait=true', { source: made.model('next', 1, 7), name: 'next' });
  const { digest } = (await call('GET', '/models/next')).body;
  const moved = await call('PUT', '/models/org%2Fone', { digest: String(digest) });
  expect(moved).toMatchObject({ status: 200, body: { digest } });
  expect(await call('PUT', '/models/org%2Fone', { digest: '0'.repeat(64) })).toMatchObject({ status: 404 });
  const lease = await call('POST', '/models/next/handles', {});
  expect((await call('DELETE', '/models/org%2Fone')).status).toBe(204);
  expect(await call('DELETE', '/models/next?drain=true')).toMatchObject({ status: 202, body: { state: 'draining' } });
  expect(await call('POST', '/models/next/handles', {})).toMatchObject({ status: 409 });
  await call('DELETE', `/handles/${lease.body.id}`);
  expect(await call('DELETE', '/models/nowhere')).toMatchObject({ status: 404 });
});

test('region and hosts', async () => {
  const { body } = await call('GET', '/region');
  expect(Compile(RegionInfo).Check(body)).toBe(true);
  expect(body).toMatchObject({ backing: 'tmpfs', size: 64 * 2 ** 20 });
  expect((await call('GET', '/hosts')).body).toMatchObject({ items: [{ name: 'first', self: true, state: 'live' }] });
  const metrics = (await app.inject('/metrics')).body;
  expect(metrics).toMatch(/daxserve_region_info\{region="[0-9a-f-]+",path="[^"]+",backing="tmpfs"\} 1/);
  expect(metrics).toMatch(/daxserve_model_requests_total\{result="hit"\} [1-9]/);
});
