/** Goal: a lease guards bytes from grant to the death of its last mapping, in one service and between two. Method: a real region and its locks. */
import { closeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { TestStore } from '../support/store.ts';
import { until } from '../support/until.ts';

const worker = { pid: 1, uid: 0 };
let t: TestStore;
beforeEach(async () => {
  t = await TestStore.open();
  await t.store.load({ source: t.model('m', 2), name: 'm' });
  await t.store.settled('m');
});
afterEach(() => t.dispose());

const noContents = () => t.opened.registry.contents().length === 0;

describe('reserve', () => {
  it('gives a handle with a token that attaches once', async () => {
    const handle = await t.leases.reserve('m', {});
    expect(handle).toMatchObject({ kind: 'mmap', model: 'm:latest', manifest: '.daxserve/manifest.json' });
    expect(Date.parse(handle.expiresAt!)).toBeGreaterThan(Date.now() + 50_000);
    await expect(t.leases.attachReserved(handle.id, 'wrong', worker)).rejects.toMatchObject({
      code: 'HANDLE_BAD_TOKEN',
    });
    const granted = await t.leases.attachReserved(handle.id, handle.token!, worker);
    expect(granted.fds).toHaveLength(1);
    expect(granted.handle.expiresAt).toBeNull();
    await expect(t.leases.attachReserved(handle.id, handle.token!, worker)).rejects.toMatchObject({
      code: 'HANDLE_ATTACHED',
    });
    for (const fd of granted.fds) closeSync(fd);
  });

  it('ends at its time to live and then answers 410', async () => {
    const handle = await t.leases.reserve('m', { ttlSeconds: 0.05 });
    // In the same turn: no timer can have ended it.
    expect(t.store.list()[0]!.leases).toBe(1);
    await until(() => t.leases.page({}).items.length === 0);
    await expect(t.leases.attachReserved(handle.id, handle.token!, worker)).rejects.toMatchObject({
      code: 'HANDLE_EXPIRED',
    });
    expect((await t.store.get('m')).leases).toBe(0);
    expect(t.events).toContainEqual({ type: 'lease-expired' });
  });

  it('can be renewed before it ends', async () => {
    const handle = await t.leases.reserve('m', { ttlSeconds: 0.1 });
    const renewed = t.leases.renew(handle.id, 60);
    expect(Date.parse(renewed.expiresAt!)).toBeGreaterThan(Date.now() + 50_000);
    const other = await t.leases.reserve('m', { ttlSeconds: 0.1 });
    await until(() => t.leases.page({}).items.every(({ id }) => id !== other.id));
    expect(t.leases.page({}).items.map(({ id }) => id)).toEqual([handle.id]);
  });

  it('is refused beyond the limit of handles', async () => {
    await t.dispose();
    t = await TestStore.open({ handlesMax: 2 });
    await t.store.load({ source: t.model('m', 2), name: 'm' });
    await t.store.settled('m');
    const { id } = await t.leases.reserve('m', {});
    await t.leases.reserve('m', {});
    await expect(t.leases.reserve('m', {})).rejects.toMatchObject({ code: 'HANDLE_LIMIT', kind: 'exhausted' });
    await t.leases.release(id);
    await t.leases.reserve('m', {});
  });

  it('is counted by its kind while it is held', async () => {
    expect(t.leases.counts()).toEqual({ mmap: 0, dmabuf: 0 });
    const { id } = await t.leases.reserve('m', {});
    expect(t.leases.counts()).toEqual({ mmap: 1, dmabuf: 0 });
    await t.leases.release(id);
    expect(t.leases.counts()).toEqual({ mmap: 0, dmabuf: 0 });
  });

  it('is listed page by page, by its id', async () => {
    const made: string[] = [];
    for (let i = 0; i < 5; i++) made.push((await t.leases.reserve('m', {})).id);
    const first = t.leases.page({ limit: 3 });
    const second = t.leases.page({ limit: 3, after: first.next! });
    const shown = [...first.items, ...second.items];
    expect(shown.map(({ id }) => id)).toEqual(made.sort());
    expect(shown[0]).toMatchObject({ model: 'm:latest', worker: null });
    expect([first.items.length, second.next]).toEqual([3, undefined]);
    // The one that the page before ended with may be gone.
    await t.leases.release(first.next!);
    expect(t.leases.page({ after: first.next! })).toEqual(second);
  });

  it('never shows tokens in the list', async () => {
    await t.leases.reserve('m', {});
    expect(JSON.stringify(t.leases.page({}).items)).not.toContain('token');
  });

  it.each([
    [{ digest: '0'.repeat(64) }, 'MODEL_MISMATCH'],
    [{ revision: 'other' }, 'MODEL_MISMATCH'],
    [{ kind: 'dmabuf' as const }, 'SERVER_UNSUPPORTED'],
    [{ tensors: ['no such'] }, 'TENSOR_NOT_FOUND'],
    [{ files: ['no such'] }, 'TENSOR_NOT_FOUND'],
  ])('refuses %j with %s', async (request, code) => {
    await expect(t.leases.reserve('m', request)).rejects.toMatchObject({ code });
    expect(t.leases.page({}).items).toHaveLength(0);
  });

  it('names only the files that hold the tensors asked for, and the manifest', async () => {
    const handle = await t.leases.reserve('m', { tensors: ['layer.2.weight'] });
    expect(handle.buffers[0]!.files.map((file) => file.path)).toEqual(['.daxserve/manifest.json', 'm.safetensors']);
  });
});

describe('the fence', () => {
  it('keeps a deleted model’s chunks while its descriptor lives, though the lease has ended', async () => {
    const free = t.freeChunks();
    const { handle, fds } = await t.leases.attach('m', {}, worker);
    await expect(t.store.remove('m', { drain: false })).rejects.toMatchObject({ code: 'MODEL_LEASED' });
    expect((await t.store.remove('m', { drain: true })).outcome).toBe('draining');
    await t.leases.release(handle.id);
    await t.sweeps(3);
    expect(t.freeChunks()).toBe(free);
    expect((await t.store.get('m')).state).toBe('draining');
    for (const fd of fds) closeSync(fd);
    await until(noContents);
    expect(t.freeChunks()).toBeGreaterThan(free);
  });

  it('tells leases that their model drains', async () => {
    const told: string[] = [];
    t.leases.onDraining((id) => told.push(id));
    const { handle, fds } = await t.leases.attach('m', {}, worker);
    await t.store.remove('m', { drain: true });
    expect(told).toEqual([handle.id]);
    for (const fd of fds) closeSync(fd);
  });

  it('refuses new leases on a draining model', async () => {
    const { fds } = await t.leases.attach('m', {}, worker);
    await t.store.remove('m', { drain: true });
    await expect(t.leases.attach('m', {}, worker)).rejects.toMatchObject({ code: 'MODEL_NOT_READY' });
    for (const fd of fds) closeSync(fd);
  });

  it('holds against another service on the same region', async () => {
    const other = await t.second('second');
    try {
      const { handle, fds } = await t.leases.attach('m', {}, worker);
      await expect(other.store.remove('m', { drain: false })).rejects.toMatchObject({ code: 'MODEL_LEASED' });
      expect((await other.store.remove('m', { drain: true })).outcome).toBe('draining');
      await t.leases.release(handle.id);
      await t.sweeps(3);
      expect(noContents()).toBe(false);
      for (const fd of fds) closeSync(fd);
      await until(noContents);
    } finally {
      await other.close();
    }
  });

  it('gives descriptors that nobody can write through', async () => {
    const { fds } = await t.leases.attach('m', {}, worker);
    expect(() => new native.Mapping(fds[0]!, 0, 4096, { write: true })).toThrow(/EACCES/);
    if (t.region.fence.strength === 'enforced') expect(() => native.reopen(fds[0]!, true)).toThrow(/EROFS/);
    for (const fd of fds) closeSync(fd);
  });
});

describe('eviction', () => {
  it('takes the least recently used model that nobody holds and nobody keeps', async () => {
    await t.dispose();
    t = await TestStore.open({ evict: true });
    for (const name of ['kept', 'held', 'old', 'new']) {
      await t.store.load({
        source: t.model(name, 10, name.length * 7 + name.charCodeAt(0)),
        name,
        keep: name === 'kept',
      });
      expect((await t.store.settled(name)).state).toBe('ready');
    }
    const { fds } = await t.leases.attach('held', {}, worker);
    await t.store.load({ source: t.model('next', 9, 99), name: 'next' });
    expect((await t.store.settled('next')).state).toBe('ready');
    const names = t.store.list('ready').map((model) => model.name);
    expect(names).toEqual(['held', 'kept', 'new', 'next']);
    expect(t.events.filter((event) => event.type === 'evicted')).toHaveLength(1);
    for (const fd of fds) closeSync(fd);
  });

  it('gives back a row when all are taken, and says so when every model is held', async () => {
    await t.dispose();
    t = await TestStore.open({ evict: true, contents: 2 });
    const load = async (name: string, seed: number) => {
      await t.store.load({ source: t.model(name, 2, seed), name });
      return t.store.settled(name);
    };
    for (const [name, seed] of [
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ] as const)
      expect((await load(name, seed)).state).toBe('ready');
    expect(t.store.list('ready').map(({ name }) => name)).toEqual(['b', 'c']);
    const fds = [...(await t.leases.attach('b', {}, worker)).fds, ...(await t.leases.attach('c', {}, worker)).fds];
    const { state, error } = await load('d', 4);
    expect([state, error?.code]).toEqual(['failed', 'INGEST_TABLE_FULL']);
    expect(error?.detail).toMatch(/remove models.*daxserve region create --contents N/);
    for (const fd of fds) closeSync(fd);
  });
});
