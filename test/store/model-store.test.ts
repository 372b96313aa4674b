/** Goal: a model is loaded once, named once, and its bytes come back when nobody uses them. Method: a real region, real files. */
import { closeSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { contentFiles } from '../../daxfs/index.ts';
import type { ModelStore } from '../../server/services.ts';
import { TestStore } from '../support/store.ts';

let t: TestStore;
beforeEach(async () => {
  t = await TestStore.open();
});
afterEach(() => t.dispose());

async function loaded(store: ModelStore, source: string, name: string) {
  const { outcome } = await store.load({ source, name });
  return { outcome, model: await store.settled(name) };
}

describe('load', () => {
  it('puts the file into the region byte for byte', async () => {
    const source = t.model('a', 8);
    const { outcome, model } = await loaded(t.store, source, 'a');
    expect(outcome).toBe('miss');
    expect(model).toMatchObject({ state: 'ready', tensorCount: 4, format: 'safetensors' });
    const content = t.opened.registry.contents()[0]!;
    const place = contentFiles(t.region, content).get('a.safetensors')!;
    const there = t.region.mapping.read(place.offset, place.size);
    expect(there.equals(readFileSync(source))).toBe(true);
    expect(place.offset % (2 * 2 ** 20)).toBe(0);
  });

  it('answers hit the second time, whatever the name', async () => {
    const source = t.model('a', 2);
    await loaded(t.store, source, 'a');
    const free = t.freeChunks();
    expect((await t.store.load({ source, name: 'a' })).outcome).toBe('hit');
    expect((await t.store.load({ source, name: 'b' })).outcome).toBe('hit');
    expect(t.freeChunks()).toBe(free);
    expect(t.store.list().map((model) => model.name)).toEqual(['a', 'b']);
  });

  it('joins a load in progress, under the same and under another name', async () => {
    const source = t.model('a', 8);
    const release = await t.claim(source);
    const posted = await Promise.all(['a', 'a', 'c'].map((name) => t.store.load({ source, name })));
    // Which of them is resolved first is the file system's business.
    expect(posted.map(({ outcome }) => outcome).sort()).toEqual(['joined', 'joined', 'miss']);
    release();
    expect((await t.store.settled('c')).digest).toBe((await t.store.settled('a')).digest);
    expect(t.opened.registry.contents()).toHaveLength(1);
  });

  it('keeps one copy of the same bytes from two sources', async () => {
    await loaded(t.store, t.model('a', 4, 5), 'a');
    const free = t.freeChunks();
    const copy = t.model('copy', 4, 5);
    // The path in the content is part of the identity of its bytes, so the copy lies in a directory of its own.
    mkdirSync(`${t.dir}/other`);
    renameSync(copy, `${t.dir}/other/a.safetensors`);
    const { model } = await loaded(t.store, `${t.dir}/other/a.safetensors`, 'twin');
    expect(model.state).toBe('ready');
    expect(t.freeChunks()).toBe(free);
    expect((await t.store.load({ source: `${t.dir}/other/a.safetensors`, name: 'twin' })).outcome).toBe('hit');
  });

  it('keeps the revision that was asked for, also of bytes that are there under another one', async () => {
    const source = t.model('a', 2);
    await loaded(t.store, source, 'plain');
    for (const revision of ['v1', 'v2']) {
      await t.store.load({ source, name: revision, revision });
      expect(await t.store.settled(revision)).toMatchObject({ state: 'ready', revision });
      await t.leases.reserve(revision, { revision });
    }
    expect(new Set(['plain', 'v1', 'v2'].map((name) => t.store.names.find(`${name}:latest`)?.index)).size).toBe(3);
    // Whoever names no revision takes what is there.
    mkdirSync(`${t.dir}/other`);
    renameSync(source, `${t.dir}/other/a.safetensors`);
    const free = t.freeChunks();
    await loaded(t.store, `${t.dir}/other/a.safetensors`, 'again');
    expect(t.freeChunks()).toBe(free);
  });

  it('refuses other content under a name in use', async () => {
    await loaded(t.store, t.model('a', 2, 1), 'a');
    const other = t.model('b', 2, 2);
    await expect(t.store.load({ source: other, name: 'a' })).rejects.toMatchObject({ code: 'MODEL_NAME_TAKEN' });
  });

  it('leaves nothing behind when it fails, and can be repeated', async () => {
    const source = t.model('a', 4);
    const whole = readFileSync(source);
    truncateSync(source, 1000);
    const free = t.freeChunks();
    const { model } = await loaded(t.store, source, 'a');
    expect(model.state).toBe('failed');
    expect(model.error?.code).toMatch(/^SAFETENSORS_/);
    expect(t.freeChunks()).toBe(free);
    writeFileSync(source, whole);
    expect((await loaded(t.store, source, 'a')).model.state).toBe('ready');
  });

  it('says what is missing when the region is full', async () => {
    const { model } = await loaded(t.store, t.model('big', 80), 'big');
    expect(model).toMatchObject({ state: 'failed', error: { code: 'INGEST_NO_ROOM' } });
    expect(model.error?.detail).toMatch(/needs \d+ bytes, but the region has \d+ free/);
  });

  // The phase that an event names has ended: all chunks are claimed, and the copy begins.
  it.each(['resolving', 'allocating'])('can be cancelled at the end of %s', async (phase) => {
    const source = t.model('a', 32);
    const removing: ReturnType<ModelStore['remove']>[] = [];
    const forget = t.store.onEvent((event) => {
      if (event.type === 'phase' && event.phase === phase) removing.push(t.store.remove('a', { drain: false }));
    });
    await t.store.load({ source, name: 'a' });
    expect((await t.store.settled('a')).state).toBe('cancelled');
    expect((await Promise.all(removing)).map(({ outcome }) => outcome)).toEqual(['cancelling']);
    expect(t.opened.registry.contents()).toHaveLength(0);
    forget();
    expect((await loaded(t.store, source, 'a')).model.state).toBe('ready');
  });

  it('can be cancelled while it waits for the load of another host', async () => {
    const source = t.model('a', 4);
    const release = await t.claim(source);
    await t.store.load({ source, name: 'a' });
    expect((await t.store.remove('a', { drain: false })).outcome).toBe('cancelling');
    expect((await t.store.settled('a')).state).toBe('cancelled');
    release();
    expect(t.opened.registry.contents()).toHaveLength(0);
    expect((await loaded(t.store, source, 'a')).model.state).toBe('ready');
  });

  it('counts the time of resolving its source', async () => {
    await t.dispose();
    let clock = 1000;
    t = await TestStore.open({ now: () => clock });
    const loading = t.store.load({ source: t.model('a', 2), name: 'a' });
    clock = 5000;
    const { model } = await loading;
    expect(model).toMatchObject({ createdAt: new Date(1000).toISOString(), phases: { resolving: 4 } });
    expect((await t.store.settled('a')).phases).toMatchObject({ resolving: 4, waiting: 0, copying: 0 });
    expect(t.events).toContainEqual({ type: 'phase', phase: 'resolving', seconds: 4 });
  });

  it('verifies what it wrote when asked to', async () => {
    await t.store.load({ source: t.model('a', 4), name: 'a', verify: true });
    expect((await t.store.settled('a')).state).toBe('ready');
    expect(t.events.some((event) => event.type === 'phase' && event.phase === 'verifying')).toBe(true);
  });

  it('spreads a content over several images when no run is long enough', async () => {
    for (const name of ['x', 'y', 'z']) await loaded(t.store, t.model(name, 14), name);
    await t.store.remove('x', { drain: false });
    await t.store.remove('z', { drain: false });
    mkdirSync(`${t.dir}/many`);
    for (let i = 0; i < 4; i++) renameSync(t.model(`p${i}`, 4, 10 + i), `${t.dir}/many/p${i}.safetensors`);
    // Tensor names must differ between files of one content: load them as plain files.
    for (let i = 0; i < 4; i++) renameSync(`${t.dir}/many/p${i}.safetensors`, `${t.dir}/many/p${i}.data`);
    const { model } = await loaded(t.store, `${t.dir}/many`, 'many');
    expect(model.state).toBe('ready');
    const content = t.opened.registry.contents().find((c) => c.digest === model.digest)!;
    expect(content.images.length).toBeGreaterThan(1);
    const places = contentFiles(t.region, content);
    for (let i = 0; i < 4; i++) {
      const place = places.get(`p${i}.data`)!;
      expect(t.region.mapping.read(place.offset, place.size).equals(readFileSync(`${t.dir}/many/p${i}.data`))).toBe(
        true,
      );
    }
  });
});

describe('a name whose old content still drains', () => {
  const worker = { pid: 1, uid: 0 };
  let fds: number[];
  beforeEach(async () => {
    await loaded(t.store, t.model('a', 2), 'a');
    ({ fds } = await t.leases.attach('a', {}, worker));
    expect((await t.store.remove('a', { drain: true })).outcome).toBe('draining');
  });
  afterEach(() => {
    for (const fd of fds) closeSync(fd);
  });
  const states = async () =>
    [t.store.list(), await t.store.get('a')].flat().map(({ state, error }) => [state, error?.code]);

  it('shows how its new load failed, with the reason', async () => {
    expect(await states()).toEqual(Array(2).fill(['draining', undefined]));
    const source = t.model('b', 2, 2);
    truncateSync(source, 1000);
    const { model } = await loaded(t.store, source, 'a');
    expect(model.error?.code).toMatch(/^SAFETENSORS_/);
    expect(await states()).toEqual(Array(2).fill(['failed', model.error?.code]));
    const why = { code: 'MODEL_NOT_READY', message: expect.stringContaining(`failed (${model.error?.detail})`) };
    await expect(t.leases.attach('a', {}, worker)).rejects.toMatchObject(why);
    expect((await loaded(t.store, t.model('c', 2, 3), 'a')).model.state).toBe('ready');
    expect(await states()).toEqual(Array(2).fill(['ready', undefined]));
  });

  it('shows that its new load was cancelled', async () => {
    const source = t.model('b', 2, 2);
    const release = await t.claim(source);
    await t.store.load({ source, name: 'a' });
    expect((await t.store.remove('a', { drain: false })).outcome).toBe('cancelling');
    await t.store.settled('a');
    expect(await states()).toEqual(Array(2).fill(['cancelled', 'MODEL_CANCELLED']));
    release();
  });

  it('forgets a failed load when it is pointed at other content', async () => {
    const source = t.model('b', 2, 2);
    truncateSync(source, 1000);
    await loaded(t.store, source, 'a');
    const { model } = await loaded(t.store, t.model('c', 2, 3), 'c');
    await t.store.retarget('a', model.digest!);
    const held = await t.leases.attach('a', {}, worker);
    fds.push(...held.fds);
    // As another host would.
    t.opened.registry.drain(t.opened.registry.contents().find(({ digest }) => digest === model.digest)!);
    expect((await t.store.get('a')).state).toBe('draining');
  });
});

describe('names', () => {
  it('move to another content at once; the old one drains', async () => {
    const a = (await loaded(t.store, t.model('a', 2, 1), 'a')).model;
    const b = (await loaded(t.store, t.model('b', 2, 2), 'b')).model;
    expect((await t.store.retarget('a', b.digest!)).digest).toBe(b.digest);
    await expect(t.store.getByDigest(a.digest!)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    expect(t.opened.registry.contents()).toHaveLength(1);
  });

  it('of the same content go one by one; the last one frees it', async () => {
    const source = t.model('a', 2);
    await loaded(t.store, source, 'a');
    await t.store.load({ source, name: 'b' });
    expect((await t.store.remove('a', { drain: false })).outcome).toBe('freed');
    expect((await t.store.get('b')).state).toBe('ready');
    expect((await t.store.remove('b', { drain: false })).outcome).toBe('freed');
    expect(t.opened.registry.contents()).toHaveLength(0);
  });
});

describe('restart', () => {
  it('finds every ready model without its source', async () => {
    const { model } = await loaded(t.store, t.model('a', 4), 'a');
    rmSync(`${t.dir}/a.safetensors`);
    await t.restart();
    expect(await t.store.get('a')).toMatchObject({ state: 'ready', digest: model.digest });
    expect((await t.store.tensors('a')).length).toBe(4);
  });
});

describe('two services on one region', () => {
  it('load one source once', async () => {
    const other = await t.second('second');
    try {
      const source = t.model('a', 16);
      await Promise.all([t.store.load({ source, name: 'a' }), other.store.load({ source, name: 'a' })]);
      const [mine, theirs] = await Promise.all([t.store.settled('a'), other.store.settled('a')]);
      expect([mine.state, theirs.state]).toEqual(['ready', 'ready']);
      expect(t.opened.registry.contents()).toHaveLength(1);
      expect(theirs.digest).toBe(mine.digest);
    } finally {
      await other.close();
    }
  });
});
