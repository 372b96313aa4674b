/** Goal: what two services, a crash or bad timing can do to a load, a name or a hold. Method: a real region, the other party played step by step. */
import { getEventListeners } from 'node:events';
import { closeSync, mkdirSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeWord, offsetOf } from '../../daxfs/codec.ts';
import { hostIdentity, Region, Registry, tryLockAttaching } from '../../daxfs/index.ts';
import { contentRow, NAME_STATE, NO_CONTENT, nameRow, nameWord } from '../../daxfs/layout.ts';
import type { ContentRef } from '../../native/index.ts';
import type { OpenedStore } from '../../server/store/open-store.ts';
import { graceMs } from '../../server/store/unnamed.ts';
import { TestStore } from '../support/store.ts';
import { until } from '../support/until.ts';

const worker = { pid: 1, uid: 0 };
const MiB = 2 ** 20;
let t: TestStore;
/** The service's clock: it moves when a test says so. */
let now = 0;
beforeEach(async () => {
  now = Date.parse('2026-01-02T03:04:05.000Z');
  t = await TestStore.open({ now: () => now });
});
afterEach(() => t.dispose());

async function load(source: string, name: string, store = t.store) {
  await store.load({ source, name });
  return store.settled(name);
}

/** The same bytes under the same file name at another place: another source of one content. */
function copyOf(name: string, mib: number, seed: number): string {
  mkdirSync(`${t.dir}/other`, { recursive: true });
  renameSync(t.model(name, mib, seed), `${t.dir}/other/${name}.safetensors`);
  return `${t.dir}/other/${name}.safetensors`;
}

const contentOf = (full: string) => t.store.names.find(full)!;
const refOf = ({ index, generation }: ContentRef): ContentRef => ({ index, generation });

/** A content as a crash between publishing and naming leaves it. */
async function unnamed(source: string): Promise<ContentRef> {
  await load(source, 'lost');
  const ref = refOf(contentOf('lost:latest'));
  t.store.names.remove('lost:latest', ref);
  return ref;
}

/** Flips a bit of the content's row behind its words. */
function damage({ index }: ContentRef): void {
  const { registryOffset, contentsOffset } = t.region.header.geometry;
  const at = registryOffset + contentsOffset + index * contentRow.size + offsetOf(contentRow, 'digest');
  const byte = t.region.mapping.read(at, 1);
  t.region.mapping.write(at, Buffer.from([byte[0]! ^ 1]));
}

describe('holds', () => {
  it('of leases survive the comparison of a new load with the same bytes', async () => {
    await load(t.model('a', 4, 5), 'a');
    await t.leases.reserve('a', {});
    await load(copyOf('a', 4, 5), 'twin');
    expect(contentOf('a:latest').mask & t.opened.registry.hostBit).not.toBe(0);
    const other = await t.second('second');
    await expect(other.store.remove('a', { drain: false })).resolves.toMatchObject({ outcome: 'freed' });
    await expect(other.store.remove('twin', { drain: false })).rejects.toMatchObject({ code: 'MODEL_LEASED' });
    await other.close();
  });

  it('are not taken when a view cannot be read, and given back after it was', async () => {
    await load(t.model('a', 2), 'a');
    await t.store.tensors('a');
    expect(contentOf('a:latest').mask).toBe(0);
    await expect(t.leases.reserve('a', { files: ['none'] })).rejects.toMatchObject({ code: 'TENSOR_NOT_FOUND' });
    expect(contentOf('a:latest').mask).toBe(0);
  });

  it('refuse a drain that only the unpinned may get, decided by the same word', async () => {
    await load(t.model('a', 2), 'a');
    const other = await t.second('second');
    const ref = refOf(contentOf('a:latest'));
    expect(other.registry.pin(ref)).toBe(true);
    expect(t.opened.registry.drain(ref, { unpinned: true })).toBe(false);
    other.registry.unpin(ref);
    expect(t.opened.registry.drain(ref, { unpinned: true })).toBe(true);
    await other.close();
  });

  it('of a lease end when the service closes before its descriptor is opened', async () => {
    await load(t.model('a', 2), 'a');
    const attaching = t.leases.attach('a', {}, worker);
    t.leases.close();
    await expect(attaching).rejects.toMatchObject({ code: 'SERVER_STOPPING' });
    expect(contentOf('a:latest').mask).toBe(0);
  });

  it('of a dead host stay while a successor is attaching to its row', async () => {
    await load(t.model('a', 2), 'a');
    const region = await Region.open({ path: t.path });
    const dead = new Registry(region);
    // Nobody holds the lock of this row: for the kernel its host is dead.
    dead.attach(7, hostIdentity('dead', region));
    expect(dead.pin(refOf(contentOf('a:latest')))).toBe(true);
    const attaching = tryLockAttaching(region)!;
    await t.sweeps(3);
    expect(contentOf('a:latest').mask).toBe(1 << 7);
    attaching.release();
    await until(() => contentOf('a:latest').mask === 0);
    region.close();
  });
});

describe('a content without a name', () => {
  it('gets its name back when its source is posted', async () => {
    const source = t.model('a', 4);
    await unnamed(source);
    const free = t.freeChunks();
    expect((await t.store.load({ source, name: 'again' })).outcome).toBe('hit');
    expect(t.freeChunks()).toBe(free);
    await t.sweeps(5);
    now += 10 * graceMs;
    await t.sweeps(5);
    expect((await t.store.get('again')).state).toBe('ready');
  });

  it('is freed at once by a service that starts alone', async () => {
    const free = t.freeChunks();
    await unnamed(t.model('a', 4));
    expect(t.freeChunks()).toBeLessThan(free);
    await t.restart();
    expect(t.freeChunks()).toBe(free);
  });

  it('is freed after its grace, not before', async () => {
    const free = t.freeChunks();
    await unnamed(t.model('a', 4));
    await t.sweeps(5);
    now += graceMs - 1;
    await t.sweeps(5);
    expect(t.opened.registry.contents()).toHaveLength(1);
    now += 1;
    await until(() => t.opened.registry.contents().length === 0);
    expect(t.freeChunks()).toBe(free);
  });

  it('stays while a lease of any host holds it', async () => {
    await load(t.model('a', 2), 'a');
    const { handle, fds } = await t.leases.attach('a', {}, worker);
    const ref = refOf(contentOf('a:latest'));
    t.store.names.remove('a:latest', ref);
    await t.sweeps(5);
    now += graceMs;
    await t.sweeps(5);
    expect(t.store.names.content(ref)?.state).toBe('ready');
    await t.leases.release(handle.id);
    for (const fd of fds) closeSync(fd);
    await until(() => t.opened.registry.contents().length === 0);
  });
});

describe('a damaged content', () => {
  it('is replaced when its source is posted; its bytes come back, but not under a worker', async () => {
    const source = t.model('a', 4);
    await load(source, 'a');
    const free = t.freeChunks();
    const { handle, fds } = await t.leases.attach('a', {}, worker);
    const bad = refOf(contentOf('a:latest'));
    damage(bad);
    expect((await t.store.get('a')).state).toBe('quarantined');
    expect(await load(source, 'a')).toMatchObject({ state: 'ready' });
    expect(contentOf('a:latest').generation === bad.generation && contentOf('a:latest').index === bad.index).toBe(
      false,
    );
    await t.leases.release(handle.id);
    await t.sweeps(3);
    expect(t.freeChunks()).toBeLessThan(free);
    for (const fd of fds) closeSync(fd);
    await until(() => t.freeChunks() === free);
  });

  it('is not attached by a handle that was reserved before', async () => {
    await load(t.model('a', 2), 'a');
    const handle = await t.leases.reserve('a', {});
    damage(contentOf('a:latest'));
    await expect(t.leases.attachReserved(handle.id, handle.token!, worker)).rejects.toMatchObject({
      code: 'MODEL_NOT_READY',
    });
    expect((await t.store.remove('a', { drain: true })).outcome).toBe('freed');
  });
});

it('a name that nobody can ask for is not listed, and keeps no content', async () => {
  await load(t.model('a', 2), 'a');
  const content = contentOf('a:latest');
  t.opened.registry.setName('a b:latest', refOf(content), null);
  expect(t.store.list().map(({ name }) => name)).toEqual(['a']);
  expect(t.store.names.of(content)).toEqual(['a:latest']);
  t.store.names.remove('a:latest', refOf(content));
  await t.sweeps(5);
  now += graceMs;
  await until(() => t.opened.registry.contents().length === 0);
});

describe('loads', () => {
  it('that are cancelled while they publish leave nothing', async () => {
    t.store.onEvent((event) => {
      if (event.type === 'phase' && event.phase === 'copying') void t.store.remove('a', { drain: false });
    });
    expect((await load(t.model('a', 2), 'a')).state).toBe('cancelled');
    expect(t.opened.registry.contents()).toHaveLength(0);
  });

  it('that were being resolved when the service closed do not start', async () => {
    const posted = t.store.load({ source: t.model('a', 2), name: 'a' });
    await t.store.close();
    await expect(posted).rejects.toMatchObject({ code: 'SERVER_STOPPING' });
  });

  it('do not take the content of a name that moved for their own', async () => {
    const [a, b] = [t.model('a', 2, 1), t.model('b', 2, 2)];
    const digestOfB = (await load(b, 'b')).digest!;
    t.store.onEvent((event) => {
      if (event.type === 'loaded') t.store.names.move('a:latest', contentOf('b:latest'));
    });
    await load(a, 'a');
    const { model } = await t.store.load({ source: a, name: 'c' });
    expect((await t.store.settled('c')).digest ?? model.digest).not.toBe(digestOfB);
  });

  it('that lose their name to another content meanwhile fail, and leave nothing', async () => {
    const digest = (await load(t.model('b', 2, 2), 'b')).digest!;
    const source = t.model('a', 4, 1);
    const release = await t.claim(source);
    await t.store.load({ source, name: 'a' });
    await t.store.retarget('a', digest);
    await t.store.retarget('a', digest);
    release();
    expect(await t.store.settled('a')).toMatchObject({ state: 'failed', error: { code: 'MODEL_NAME_TAKEN' } });
    expect((await t.store.get('a')).digest).toBe(digest);
    await until(() => t.opened.registry.contents().length === 1);
  });

  it('survive the end of the load that they joined, whether it fails or is cancelled', async () => {
    const source = t.model('a', 16);
    let outcome: string | undefined;
    t.store.onEvent((event) => {
      if (event.type !== 'phase' || event.phase !== 'copying' || outcome) return;
      outcome = 'asked';
      void t.store.remove('a', { drain: false }).then((removed) => (outcome = removed.outcome));
    });
    const release = await t.claim(source);
    await t.store.load({ source, name: 'a' });
    await t.store.load({ source, name: 'c' });
    release();
    expect((await t.store.settled('a')).state).toBe('cancelled');
    expect(outcome).toBe('cancelling');
    expect((await t.store.settled('c')).state).toBe('ready');
  });

  it('of another host go on when the one that waits for them is cancelled', async () => {
    const source = t.model('a', 32);
    const other = await t.second('second');
    const release = await t.claim(source, other);
    await other.store.load({ source, name: 'theirs' });
    await t.store.load({ source, name: 'mine' });
    expect((await t.store.remove('mine', { drain: false })).outcome).toBe('cancelling');
    expect((await t.store.settled('mine')).state).toBe('cancelled');
    expect((await other.store.get('theirs')).state).toBe('loading');
    release();
    expect((await other.store.settled('theirs')).state).toBe('ready');
    await other.close();
  });

  it('that fail both tell why, when two names wait for one bad source', async () => {
    writeFileSync(`${t.dir}/bad.safetensors`, Buffer.alloc(64, 1));
    const source = `${t.dir}/bad.safetensors`;
    await Promise.all([t.store.load({ source, name: 'a' }), t.store.load({ source, name: 'c' })]);
    for (const name of ['a', 'c']) {
      const { state, error } = await t.store.settled(name);
      expect(state).toBe('failed');
      expect(error?.code).toMatch(/^SAFETENSORS_/);
    }
  });

  it('wait for their turn, and can be cancelled meanwhile', async () => {
    const names = Array.from({ length: 12 }, (_, i) => `n${i}`);
    for (const [i, name] of names.entries()) await t.store.load({ source: t.model(name, 1, i + 1), name });
    await t.store.remove('n11', { drain: false });
    const states = await Promise.all(names.map(async (name) => (await t.store.settled(name)).state));
    // It was cancelled in the turn in which it was posted: nothing of it can have been read by then.
    expect(states).toEqual([...Array.from({ length: 11 }, () => 'ready'), 'cancelled']);
  });

  it('end when files are many and no run is long enough for what lies around them', async () => {
    mkdirSync(`${t.dir}/many`);
    for (let i = 0; i < 11_000; i++) writeFileSync(`${t.dir}/many/f${i}.txt`, '');
    const { registry } = t.opened;
    const claim = registry.claim(Buffer.alloc(16, 7));
    if (claim.outcome !== 'claimed') throw new Error('no row');
    // Two chunks stay: the names alone need more.
    registry.allocateRun(t.freeChunks() - 2, claim);
    expect(await load(`${t.dir}/many`, 'many')).toMatchObject({ state: 'failed', error: { code: 'INGEST_NO_ROOM' } });
    registry.abandon(claim);
    expect(await load(`${t.dir}/many`, 'many')).toMatchObject({ state: 'ready' });
    expect((await t.leases.reserve('many', {})).buffers[0]!.files).toHaveLength(11_001);
  });
});

describe('waiting', () => {
  it('leaves no listener on the signal', async () => {
    const { signal } = new AbortController();
    await t.store.load({ source: t.model('a', 4), name: 'a' });
    expect((await t.store.settled('a', signal)).state).toBe('ready');
    await sleep(0);
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });

  it('ends with the reason of its signal', async () => {
    await t.store.load({ source: t.model('a', 32), name: 'a' });
    const stop = new AbortController();
    const waiting = t.store.settled('a', stop.signal);
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect((await t.store.settled('a')).state).toBe('ready');
  });
});

describe('two services', () => {
  it('tell leases when the other one drains their model', async () => {
    await load(t.model('a', 2), 'a');
    const told: string[] = [];
    t.leases.onDraining((id) => told.push(id));
    const { handle, fds } = await t.leases.attach('a', {}, worker);
    const other = await t.second('second');
    await other.store.remove('a', { drain: true });
    await until(() => told.length > 0);
    await t.sweeps(3);
    expect(told).toEqual([handle.id]);
    for (const fd of fds) closeSync(fd);
    await other.close();
  });

  it('that take off one name each at the same time leave nothing', async () => {
    const source = t.model('a', 2);
    await load(source, 'a');
    await t.store.load({ source, name: 'b' });
    const other = await t.second('second');
    await Promise.all([t.store.remove('a', { drain: false }), other.store.remove('b', { drain: false })]);
    expect(t.opened.registry.contents()).toHaveLength(0);
    await other.close();
  });
});

describe('a host that was taken for dead while it was paused', () => {
  /** What a survivor does to a host of another kernel that has been silent too long, or an operator to any. */
  function fence(by: OpenedStore): void {
    const host = by.registry.hosts().find(({ name }) => name === 'first')!;
    expect(by.registry.lapse(host)).toBe(true);
    by.registry.recover(host.index, 'lapsed');
  }

  it('gives no descriptor for a handle that it had reserved, and closes in order', async () => {
    await load(t.model('a', 2), 'a');
    const handle = await t.leases.reserve('a', {});
    const other = await t.second('second');
    fence(other);
    await expect(t.leases.attachReserved(handle.id, handle.token!, worker)).rejects.toMatchObject({
      code: 'DAXFS_HOST_LOST',
    });
    await expect(t.leases.attach('a', {}, worker)).rejects.toMatchObject({ code: 'DAXFS_HOST_LOST' });
    await t.store.load({ source: t.model('b', 2, 2), name: 'b' });
    expect(await t.store.settled('b')).toMatchObject({ state: 'failed', error: { code: 'DAXFS_HOST_LOST' } });
    await other.close();
  });

  it('ends the load under way with the reason; what it may still write is not used again', async () => {
    await t.dispose();
    t = await TestStore.open({ mib: 512 });
    const source = `${t.dir}/large.data`;
    writeFileSync(source, '');
    truncateSync(source, 400 * MiB);
    const other = await t.second('second');
    const free = t.freeChunks();
    await t.store.load({ source, name: 'large' });
    while (t.freeChunks() === free) await sleep(1);
    fence(other);
    expect(await t.store.settled('large')).toMatchObject({ state: 'failed', error: { code: 'DAXFS_HOST_LOST' } });
    expect(t.opened.registry.chunkStats().quarantined).toBeGreaterThan(0);
    await other.close();
  });
});

describe('a name in the hands of a host that was stopped there', () => {
  it('is refused after a bounded wait, in words', async () => {
    const digest = (await load(t.model('a', 1, 1), 'a')).digest!;
    await load(t.model('b', 1, 2), 'b');
    const { registryOffset, namesOffset, names } = t.region.header.geometry;
    const rows = t.region.mapping.read(registryOffset + namesOffset, names * nameRow.size);
    const row = rows.indexOf('b:latest') - offsetOf(nameRow, 'name');
    const host = t.opened.registry.hosts()[0]!;
    const word = encodeWord(nameWord, {
      state: NAME_STATE.CLAIMED,
      content: NO_CONTENT,
      host: host.index,
      host_generation: host.generation,
    });
    t.region.mapping.store64(registryOffset + namesOffset + row, word);
    await expect(t.store.retarget('b', digest)).rejects.toMatchObject({ code: 'MODEL_NAME_TAKEN' });
    expect((await t.store.get('a')).state).toBe('ready');
  });
});

describe('lists', () => {
  it('are the same objects while nothing changes, and new ones for what changed', async () => {
    await load(t.model('a', 1, 1), 'a');
    await load(t.model('b', 1, 2), 'b');
    const { registry } = t.opened;
    const before = registry.contents();
    expect(registry.contents()).toBe(before);
    expect(registry.names()).toBe(registry.names());
    registry.touch(contentOf('b:latest').index, 12_345_678);
    const after = registry.contents();
    expect(after).not.toBe(before);
    expect(after.filter((content) => before.includes(content))).toHaveLength(1);
    expect(t.store.list().map(({ name, leases }) => [name, leases])).toEqual([
      ['a', 0],
      ['b', 0],
    ]);
    await t.leases.reserve('b', {});
    expect(t.store.list().map(({ leases }) => leases)).toEqual([0, 1]);
  });
});
