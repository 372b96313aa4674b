/** Goal: /models shows the registry's contents as files that nobody can change. Method: a real model loaded by a real store. */
import { readFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { type OpenedRegion, openRegion } from '../../daxfs/index.ts';
import { TestStore } from '../support/store.ts';

let store: TestStore | undefined;
let opened: OpenedRegion | undefined;

afterEach(async () => {
  await opened?.close();
  await store?.dispose();
  opened = store = undefined;
});

async function loaded(write: boolean): Promise<{ region: OpenedRegion; bytes: Buffer }> {
  store = await TestStore.open();
  const path = store.model('tiny', 4);
  for (const name of ['tiny', 'tiny:v2', 'org/tiny']) await store.store.load({ source: path, name });
  opened = await openRegion(store.path, { write });
  const names = () => opened!.fs.readdirSync('models', { recursive: true });
  await expect.poll(names).toEqual(expect.arrayContaining(['tiny', 'tiny:v2', 'org/tiny']));
  return { region: opened, bytes: readFileSync(path) };
}

it.each([false, true])('lists and reads models (writable: %s)', async (write) => {
  const { region, bytes } = await loaded(write);
  const { fs } = region;
  expect(fs.readdirSync('/')).toContain('models');
  expect(fs.readdirSync('models').sort()).toEqual(['org', 'tiny', 'tiny:v2']);
  expect(fs.readdirSync('/models/org')).toEqual(['tiny']);
  expect(fs.readdirSync('/models/tiny').sort()).toEqual(['.daxserve', 'tiny.safetensors']);
  for (const name of ['tiny', 'tiny:latest', 'tiny:v2', 'org/tiny', '../models/./tiny']) {
    expect((await fs.readFile(`/models/${name}/tiny.safetensors`)).equals(bytes), name).toBe(true);
  }
  const stat = fs.statSync('/models/tiny/tiny.safetensors');
  expect([stat.isFile(), stat.size, stat.mode & 0o777]).toEqual([true, bytes.length, 0o444]);
  expect(JSON.parse(fs.readFileSync('/models/tiny/.daxserve/manifest.json', 'utf8'))).toHaveProperty('files');
  await using file = await fs.open('/models/tiny/tiny.safetensors');
  const part = Buffer.alloc(100);
  expect((await file.read(part, 0, 100, bytes.length - 40)).bytesRead).toBe(40);
  expect(part.subarray(0, 40).equals(bytes.subarray(-40))).toBe(true);
});

it('a view is the memory itself and ends with the region', async () => {
  const { region, bytes } = await loaded(true);
  const view = region.fs.readFileView('/models/tiny/tiny.safetensors');
  expect(view.equals(bytes)).toBe(true);
  expect(region.fs.readFileView('/models/tiny/tiny.safetensors').buffer).toBe(view.buffer);
  region.fs.writeFileSync('plain', 'x');
  expect(() => region.fs.readFileView('plain')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  await region.close();
  expect(view).toHaveLength(0);
});

it.each([false, true])('what is viewed is not freed (writable: %s)', async (write) => {
  const { region, bytes } = await loaded(write);
  const view = region.fs.readFileView('/models/tiny/tiny.safetensors');
  for (const name of ['tiny', 'tiny:v2', 'org/tiny'])
    await store!.store.remove(name, { drain: true }).catch(() => undefined);
  expect(region.fs.existsSync('/models/tiny')).toBe(false);
  const free = store!.freeChunks();
  expect(view.equals(bytes)).toBe(true);
  await region.close();
  await expect.poll(() => store!.freeChunks()).toBeGreaterThan(free);
});

it('nothing can be changed below it', async () => {
  const { region } = await loaded(true);
  const { fs } = region;
  const readOnly = expect.objectContaining({ code: 'EROFS' });
  await expect(fs.writeFile('/models/tiny/x', '')).rejects.toEqual(readOnly);
  expect(() => fs.mkdirSync('/models/new')).toThrow(readOnly);
  expect(() => fs.unlinkSync('/models/tiny/tiny.safetensors')).toThrow(readOnly);
  expect(() => fs.renameSync('/models/tiny', '/mine')).toThrow(readOnly);
  expect(() => fs.chmodSync('/models/tiny', 0o777)).toThrow(readOnly);
  await expect(fs.truncate('/models/tiny/tiny.safetensors')).rejects.toEqual(readOnly);
  await expect(fs.readFile('/models/nobody/x')).rejects.toMatchObject({ code: 'ENOENT', syscall: 'open' });
  await expect(fs.readFile('/models/tiny')).rejects.toMatchObject({ code: 'EISDIR' });
  await fs.copyFile('/models/tiny/.daxserve/manifest.json', 'copy.json');
  expect(fs.statSync('copy.json').size).toBeGreaterThan(10);
});
