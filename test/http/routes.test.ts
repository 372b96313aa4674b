/**
 * Goal: every call answers with every status that its schema promises, and with no other.
 * Method: `inject` against canned services; the statuses seen are compared with /openapi.json at the end.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Compile } from 'typebox/compile';
import { expect, onTestFinished, test } from 'vitest';
import { daxfsError } from '../../daxfs/errors.ts';
import { type ServerErrorCode, serverError } from '../../server/errors.ts';
import type { Services } from '../../server/lifecycle.ts';
import { errorOfLoad } from '../../server/problem.ts';
import { Handle, HandleInList } from '../../server/schemas/handle.ts';
import { Model } from '../../server/schemas/model.ts';
import { Problem } from '../../server/schemas/problem.ts';
import type { LeaseBook, ModelStore } from '../../server/services.ts';
import { DIGEST, handle, model, stubServices } from '../support/stub-services.ts';
import { until } from '../support/until.ts';
import { testApp } from '../support/web.ts';

const READ = 'r'.repeat(20);
const ADMIN = 'a'.repeat(20);

interface Call {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** As /openapi.json writes it. */
  path: string;
  url: string;
  body?: unknown;
  /** A body, query or path that breaks the schema. */
  bad?: { url?: string; body?: unknown; place: string };
  scope: 'open' | 'read' | 'admin';
  /** What the call does first; it throws for 500. */
  first?: { store?: Partial<ModelStore>; leases?: Partial<LeaseBook>; region?: boolean; fence?: Services['fence'] };
}

const boom = () => {
  throw new TypeError('something secret');
};
const NAME = 'org%2Fm';
const CALLS: Call[] = [
  {
    method: 'POST',
    path: '/models',
    url: '/models',
    body: { source: '/x' },
    bad: { body: { source: 5 }, place: 'body/source' },
    scope: 'admin',
    first: { store: { load: boom } },
  },
  {
    method: 'GET',
    path: '/models',
    url: '/models',
    bad: { url: '/models?limit=x', place: 'query/limit' },
    scope: 'read',
    first: { store: { list: boom } },
  },
  {
    method: 'GET',
    path: '/models/{name}',
    url: `/models/${NAME}`,
    bad: { url: '/models/..%2Fm', place: 'path/name' },
    scope: 'read',
    first: { store: { get: boom } },
  },
  {
    method: 'GET',
    path: '/models/by-digest/{digest}',
    url: `/models/by-digest/${DIGEST}`,
    bad: { url: '/models/by-digest/xyz', place: 'path/digest' },
    scope: 'read',
    first: { store: { getByDigest: boom } },
  },
  {
    method: 'PUT',
    path: '/models/{name}',
    url: `/models/${NAME}`,
    body: { digest: DIGEST },
    bad: { body: {}, place: 'body' },
    scope: 'admin',
    first: { store: { retarget: boom } },
  },
  {
    method: 'DELETE',
    path: '/models/{name}',
    url: `/models/${NAME}`,
    bad: { url: `/models/${NAME}?drain=maybe`, place: 'query/drain' },
    scope: 'admin',
    first: { store: { remove: boom } },
  },
  {
    method: 'GET',
    path: '/models/{name}/tensors',
    url: `/models/${NAME}/tensors`,
    bad: { url: `/models/${NAME}/tensors?limit=0`, place: 'query/limit' },
    scope: 'read',
    first: { store: { tensors: boom } },
  },
  {
    method: 'GET',
    path: '/models/{name}/events',
    url: `/models/${NAME}/events`,
    bad: { url: '/models/%00/events', place: 'path/name' },
    scope: 'read',
    first: { store: { get: boom } },
  },
  {
    method: 'POST',
    path: '/models/{name}/handles',
    url: `/models/${NAME}/handles`,
    body: {},
    bad: { body: { ttlSeconds: 3601 }, place: 'body/ttlSeconds' },
    scope: 'read',
    first: { leases: { reserve: boom } },
  },
  {
    method: 'GET',
    path: '/handles',
    url: '/handles',
    bad: { url: '/handles?nope=1', place: 'query/nope' },
    scope: 'read',
    first: { leases: { page: boom } },
  },
  {
    method: 'PUT',
    path: '/handles/{id}',
    url: '/handles/h1',
    body: { ttlSeconds: 5 },
    bad: { body: { ttlSeconds: 'x' }, place: 'body/ttlSeconds' },
    scope: 'read',
    first: { leases: { renew: boom } },
  },
  {
    method: 'DELETE',
    path: '/handles/{id}',
    url: '/handles/h1',
    bad: { url: '/handles/a%20b', place: 'path/id' },
    scope: 'read',
    first: { leases: { release: boom } },
  },
  { method: 'GET', path: '/region', url: '/region', scope: 'read', first: { region: true } },
  {
    method: 'GET',
    path: '/hosts',
    url: '/hosts',
    bad: { url: '/hosts?limit=0', place: 'query/limit' },
    scope: 'read',
    first: { region: true },
  },
  {
    method: 'POST',
    path: '/hosts/{name}/fence',
    url: '/hosts/h1/fence',
    bad: { url: `/hosts/${'x'.repeat(65)}/fence`, place: 'path/name' },
    scope: 'admin',
    first: { fence: boom },
  },
  { method: 'GET', path: '/healthz', url: '/healthz', scope: 'open' },
  { method: 'GET', path: '/readyz', url: '/readyz', scope: 'open', first: { region: true } },
  { method: 'GET', path: '/metrics', url: '/metrics', scope: 'read', first: { store: { list: boom } } },
  {
    method: 'GET',
    path: '/problems/{code}',
    url: '/problems/MODEL_LEASED',
    bad: { url: `/problems/${'x'.repeat(65)}`, place: 'path/code' },
    scope: 'open',
  },
];

const seen = new Map<string, Set<number>>();
const checkProblem = Compile(Problem);

function services({ store, leases, region, fence }: NonNullable<Call['first']> = {}) {
  const stub = stubServices({ ...(store && { store }), ...(leases && { leases }) });
  return { ...stub, ...(region && { region: { ...stub.region, info: boom, hosts: boom } }), ...(fence && { fence }) };
}

type Testing = Awaited<ReturnType<typeof testApp>>['app'];

async function send(
  app: Testing,
  call: Call,
  changes: { url?: string; body?: unknown; headers?: Record<string, string> } = {},
) {
  const body = changes.body ?? call.body;
  const response = await app.inject({
    method: call.method,
    url: changes.url ?? call.url,
    headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...changes.headers },
    ...(body !== undefined && { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const key = `${call.method} ${call.path}`;
  seen.set(key, (seen.get(key) ?? new Set()).add(response.statusCode));
  if (response.statusCode >= 400) {
    expect(response.headers['content-type']).toBe('application/problem+json');
    const problem = response.json();
    expect(checkProblem.Check(problem)).toBe(true);
    expect(problem).toMatchObject({
      status: response.statusCode,
      type: `/problems/${problem.code}`,
      error: problem.detail,
    });
  }
  return response;
}

function tokenFile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'daxserve-tokens-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'tokens'), `read ${READ}\nadmin ${ADMIN}\n`, { mode: 0o600 });
  return join(folder, 'tokens');
}

const title = (call: Call) => `${call.method} ${call.path}`;
const each = test.each(CALLS.map((call) => [title(call), call] as const));

each('%s succeeds', async (_title, call) => {
  const { app } = await testApp(services());
  const { statusCode } = await send(app, call);
  expect(statusCode).toBeLessThan(300);
});

each('%s refuses another Host and Origin', async (_title, call) => {
  const { app } = await testApp(services());
  const host = await send(app, call, { headers: { host: 'evil.example' } });
  expect([host.statusCode, host.json().code]).toEqual([403, 'SERVER_BAD_HOST']);
  const origin = await send(app, call, { headers: { origin: 'http://evil.example' } });
  expect([origin.statusCode, origin.json().code]).toEqual([403, 'SERVER_BAD_ORIGIN']);
});

each('%s asks for its scope where tokens are in force', async (_title, call) => {
  const { app } = await testApp(services(), { tokenFile: tokenFile() });
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  const none = await send(app, call);
  const wrong = await send(app, call, bearer('x'.repeat(20)));
  const read = await send(app, call, bearer(READ));
  const admin = await send(app, call, bearer(ADMIN));
  const guarded = call.scope !== 'open';
  expect(none.statusCode === 401).toBe(guarded);
  expect(wrong.statusCode === 401).toBe(guarded);
  expect(read.statusCode === 403).toBe(call.scope === 'admin');
  expect(admin.statusCode).toBeLessThan(300);
  if (guarded) expect(none.headers['www-authenticate']).toContain('Bearer');
});

each('%s names the place of a mistake', async (_title, call) => {
  if (!call.bad) return;
  const { app } = await testApp(services());
  const { url, body, place } = call.bad;
  const response = await send(app, call, { ...(url !== undefined && { url }), ...(body !== undefined && { body }) });
  expect([response.statusCode, response.json()]).toMatchObject([400, { code: 'SERVER_BAD_REQUEST', place }]);
});

each('%s says 503 and Retry-After until the region is adopted, and while stopping', async (_title, call) => {
  const usesRegion = !['/healthz', '/metrics', '/problems/{code}'].includes(call.path);
  const { app } = await testApp(null);
  const starting = await send(app, call);
  expect(starting.statusCode).toBe(usesRegion ? 503 : 200);
  const adopted = await testApp(services());
  adopted.deps.lifecycle.stop();
  const stopping = await send(adopted.app, call);
  expect(stopping.statusCode).toBe(usesRegion ? 503 : 200);
  if (usesRegion) expect(stopping.headers['retry-after']).toMatch(/^\d+$/);
});

each('%s answers an unforeseen failure without telling the inside', async (_title, call) => {
  if (!call.first) return;
  const { app } = await testApp(services(call.first));
  const response = await send(app, call);
  expect(response.statusCode).toBe(500);
  expect(response.body).not.toContain('secret');
});

each('%s refuses bodies that are too large or no JSON', async (_title, call) => {
  if (call.body === undefined) return;
  const { app } = await testApp(services());
  expect((await send(app, call, { body: `"${'x'.repeat(1024 * 1024)}"` })).statusCode).toBe(413);
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data'])
    expect((await send(app, call, { headers: { 'content-type': type } })).statusCode).toBe(415);
  expect((await send(app, call, { body: '{' })).statusCode).toBe(400);
});

const call = (method: Call['method'], path: string): Call => {
  const found = CALLS.find((each) => each.method === method && each.path === path);
  if (!found) throw new Error(`no ${method} ${path}`);
  return found;
};
const throws = (code: ServerErrorCode, extra?: Record<string, unknown>) => () => {
  throw serverError(code, 'A sentence.', extra ? { extra } : {});
};
const load = call('POST', '/models');

type Outcome = [status: number, call: Call, first: NonNullable<Call['first']>];
const OUTCOMES: Outcome[] = [
  [
    404,
    load,
    {
      store: {
        load: () => {
          throw errorOfLoad({ code: 'SOURCE_NOT_FOUND', detail: 'x' });
        },
      },
    },
  ],
  [
    403,
    load,
    {
      store: {
        load: () => {
          throw errorOfLoad({ code: 'SOURCE_OUTSIDE_ROOTS', detail: 'x' });
        },
      },
    },
  ],
  [409, load, { store: { load: throws('MODEL_NAME_TAKEN') } }],
  [
    422,
    load,
    {
      store: {
        load: () => {
          throw errorOfLoad({ code: 'SAFETENSORS_HOLE', detail: 'x' });
        },
      },
    },
  ],
  [501, load, { store: { load: throws('SERVER_UNSUPPORTED') } }],
  [507, load, { store: { load: throws('MODEL_ROWS_FULL') } }],
  [404, call('GET', '/models/{name}'), { store: { get: throws('MODEL_NOT_FOUND') } }],
  [404, call('GET', '/models/by-digest/{digest}'), { store: { getByDigest: throws('MODEL_NOT_FOUND') } }],
  [404, call('PUT', '/models/{name}'), { store: { retarget: throws('MODEL_NOT_FOUND') } }],
  [409, call('PUT', '/models/{name}'), { store: { retarget: throws('MODEL_NOT_READY') } }],
  [507, call('PUT', '/models/{name}'), { store: { retarget: throws('MODEL_ROWS_FULL') } }],
  [404, call('DELETE', '/models/{name}'), { store: { remove: throws('MODEL_NOT_FOUND') } }],
  [409, call('DELETE', '/models/{name}'), { store: { remove: throws('MODEL_LEASED') } }],
  [
    202,
    call('DELETE', '/models/{name}'),
    { store: { remove: async () => ({ outcome: 'draining', model: model({ state: 'draining' }) }) } },
  ],
  [404, call('GET', '/models/{name}/tensors'), { store: { tensors: throws('MODEL_NOT_FOUND') } }],
  [409, call('GET', '/models/{name}/tensors'), { store: { tensors: throws('MODEL_NOT_READY') } }],
  [404, call('GET', '/models/{name}/events'), { store: { get: throws('MODEL_NOT_FOUND') } }],
  [404, call('POST', '/models/{name}/handles'), { leases: { reserve: throws('MODEL_NOT_FOUND') } }],
  [409, call('POST', '/models/{name}/handles'), { leases: { reserve: throws('MODEL_NOT_READY') } }],
  [501, call('POST', '/models/{name}/handles'), { leases: { reserve: throws('SERVER_UNSUPPORTED') } }],
  [404, call('PUT', '/handles/{id}'), { leases: { renew: throws('HANDLE_NOT_FOUND') } }],
  [410, call('PUT', '/handles/{id}'), { leases: { renew: throws('HANDLE_EXPIRED') } }],
  [404, call('POST', '/hosts/{name}/fence'), { fence: throws('HOST_NOT_FOUND') }],
  [409, call('POST', '/hosts/{name}/fence'), { fence: throws('HOST_ALIVE') }],
  [404, call('DELETE', '/handles/{id}'), { leases: { release: throws('HANDLE_NOT_FOUND') } }],
  [410, call('DELETE', '/handles/{id}'), { leases: { release: throws('HANDLE_EXPIRED') } }],
];

test.each(OUTCOMES.map(([status, what, first]) => [status, title(what), what, first] as const))(
  '%i from %s',
  async (status, _title, what, first) => {
    const { app } = await testApp(services(first));
    expect((await send(app, what)).statusCode).toBe(status);
  },
);

test('a load that has to wait: 202 with Location, 201 when waited for, the reason when it fails', async () => {
  const loading = model({ state: 'loading', tag: 'v1' });
  const store = (settled: ModelStore['settled']): Partial<ModelStore> => ({
    load: async () => ({ outcome: 'miss', model: loading }),
    settled,
  });
  const { app } = await testApp(services({ store: store(async () => model()) }));
  const accepted = await send(app, load);
  expect([accepted.statusCode, accepted.headers.location]).toEqual([202, '/models/org%2Fm%3Av1']);
  expect((await send(app, load, { url: '/models?wait=true' })).statusCode).toBe(201);
  const error = { code: 'INGEST_NO_ROOM', detail: 'No room.' };
  const failing = await testApp(services({ store: store(async () => model({ state: 'failed', error })) }));
  const failed = await send(failing.app, load, { url: '/models?wait=true' });
  expect([failed.statusCode, failed.json()]).toMatchObject([507, { code: error.code, detail: error.detail }]);
});

test('a waiting load is told to come back when the service stops', async () => {
  let waits = false;
  const settled: ModelStore['settled'] = (_name, signal) => {
    waits = true;
    return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  };
  const store = { load: async () => ({ outcome: 'miss' as const, model: model({ state: 'loading' }) }), settled };
  const { app, deps } = await testApp(services({ store }));
  const waiting = send(app, load, { url: '/models?wait=true' });
  await until(() => waits);
  deps.lifecycle.stop();
  expect((await waiting).json()).toMatchObject({ code: 'SERVER_STOPPING', status: 503 });
});

test('507 carries what is free', async () => {
  const full = daxfsError('DAXFS_NO_SPACE', 'No room.', { extra: { free: 1, largestFreeRun: 1, evictable: 0 } });
  const { app } = await testApp(services({ store: { load: async () => Promise.reject(full) } }));
  expect((await send(app, load)).json()).toMatchObject({ free: 1, largestFreeRun: 1, evictable: 0 });
});

test('answers keep every key of the interface, and lists neither tokens nor files', async () => {
  const { app } = await testApp(services());
  const got = (await app.inject('/models/org%2Fm')).json();
  expect(got).toEqual(model({ files: [] }));
  expect(Compile(Model).Check(got)).toBe(true);
  const made = await app.inject({ method: 'POST', url: '/models/m/handles', payload: {} });
  expect(made.json()).toEqual(handle({ token: 'secret' }));
  expect(made.headers.location).toBe('/handles/h1');
  expect(Compile(Handle).Check(made.json())).toBe(true);
  const [listed] = (await app.inject('/handles')).json().items;
  expect(Compile(HandleInList).Check(listed)).toBe(true);
  expect(listed).not.toHaveProperty('token');
});

test('lists come in pages that miss nothing', async () => {
  const models = Array.from({ length: 25 }, (_, i) => model({ name: `m${String(i).padStart(2, '0')}` }));
  const tensors = models.map(({ name }) => ({
    name,
    dtype: 'F32' as const,
    shape: [1],
    file: 'f',
    offset: 0,
    length: 4,
  }));
  const { app } = await testApp(
    services({ store: { list: () => [...models].reverse(), tensors: async () => tensors } }),
  );
  for (const url of ['/models', '/models/m/tensors']) {
    const names: string[] = [];
    for (let after: string | undefined; ; ) {
      const query = `?limit=10${after === undefined ? '' : `&after=${encodeURIComponent(after)}`}`;
      const page = (await app.inject(url + query)).json() as { items: { name: string }[]; next?: string };
      names.push(...page.items.map(({ name }) => name));
      if (page.next === undefined) break;
      after = page.next;
    }
    expect(names).toEqual(models.map(({ name }) => name));
  }
  expect((await app.inject('/models/m/tensors?after=none')).statusCode).toBe(400);
  expect((await app.inject('/models?after=zzz')).json()).toEqual({ items: [] });
});

test.each([
  'a/b/c',
  '..',
  '.hidden',
  'a//b',
  'a/../b',
  'a b',
  'a\u0000b',
  'ä',
  'a:',
  'a:b:c',
  '',
  'x'.repeat(65),
  `a:${'t'.repeat(65)}`,
])('the name %j is refused everywhere', async (name) => {
  const { app } = await testApp(services());
  const inBody = await app.inject({ method: 'POST', url: '/models', payload: { source: '/x', name } });
  expect(inBody.statusCode).toBe(400);
  const inPath = await app.inject(`/models/${encodeURIComponent(name)}x%00`);
  expect(inPath.statusCode).toBe(400);
});

test('a code is explained, an unknown one gets the nearest', async () => {
  const { app } = await testApp(services());
  const explain = call('GET', '/problems/{code}');
  expect((await send(app, explain)).json()).toMatchObject({ code: 'MODEL_LEASED', status: 409, kind: 'conflict' });
  const unknown = await send(app, explain, { url: '/problems/MODEL_LEASD' });
  expect([unknown.statusCode, unknown.json().detail]).toMatchObject([404, expect.stringContaining('MODEL_LEASED')]);
});

test('broken percent signs and bad UTF-8 in a path are 400, unknown paths 404', async () => {
  const { app } = await testApp(services());
  expect((await app.inject('/models/%E0%A4%A')).statusCode).toBe(400);
  expect((await app.inject('/models/%ff')).statusCode).toBe(400);
  expect((await app.inject('/nowhere')).json()).toMatchObject({ status: 404, code: 'SERVER_NO_ROUTE' });
});

test('the document promises exactly the statuses seen above', async () => {
  const { app } = await testApp(services());
  const document = (await app.inject('/openapi.json')).json() as {
    paths: Record<string, Record<string, { responses: Record<string, unknown> }>>;
  };
  for (const [path, methods] of Object.entries(document.paths))
    for (const [method, { responses }] of Object.entries(methods)) {
      const key = `${method.toUpperCase()} ${path}`;
      expect({ key, statuses: [...(seen.get(key) ?? [])].map(String).sort() }).toEqual({
        key,
        statuses: Object.keys(responses).sort(),
      });
    }
});
