/**
 * Goal: every command works against a real service, prints tables for people and JSON for programs, and ends with 0, 1 or 2.
 * Method: one service process, the compiled commands beside it.
 */
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { runDaxserve } from '../support/command.ts';
import { lineClient } from '../support/line-client.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service } from '../support/service.ts';

const service = new Service({ size: '64M' });
let source = '';

beforeAll(async () => {
  source = join(service.dir, 'm.safetensors');
  writeSafetensors(source, matrices(2, 1 << 20));
  await service.start();
});
afterAll(() => service.dispose());

const run = (...args: string[]) => runDaxserve([...args, '--url', service.url]);

async function json(...args: string[]): Promise<unknown> {
  const { code, stdout, stderr } = await run(...args, '--json');
  expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: '' });
  return JSON.parse(stdout);
}

test('load, ls, show, tag, rm', async () => {
  const loaded = await run('load', source, '--name', 'org/m', '--wait', '--keep');
  expect(loaded).toMatchObject({ code: 0, stdout: expect.stringMatching(/^org\/m:latest {2}ready, .* in .* s\n$/) });
  expect(await json('load', source, '--name', 'org/m')).toMatchObject({ state: 'ready', keep: true });

  const { stdout } = await run('ls');
  expect(stdout.split('\n')[0]).toMatch(/^NAME +STATE +FORMAT +SIZE +TENSORS +LEASES +USED$/);
  expect(stdout.split('\n')[1]).toMatch(/^org\/m +ready +safetensors/);
  const [model] = (await json('ls')) as { digest: string }[];
  expect(await json('ls', '--state', 'failed')).toEqual([]);

  expect(await json('show', 'org/m')).toMatchObject({
    name: 'org/m',
    files: expect.arrayContaining([expect.objectContaining({ path: 'm.safetensors' })]),
  });
  expect((await run('show', 'org/m')).stdout).toContain(model?.digest);
  expect(await json('tag', 'other:v2', String(model?.digest))).toMatchObject({ name: 'other', tag: 'v2' });
  expect(await json('rm', 'other:v2')).toMatchObject({ state: 'freed' });
  expect(await run('rm', 'other:v2')).toMatchObject({ code: 1, stderr: expect.stringContaining('MODEL_NOT_FOUND') });
});

test('load: patterns are given one at a time, the source before or after them', async () => {
  const folder = join(service.dir, 'many');
  mkdirSync(folder);
  for (const name of ['a.txt', 'b.txt', 'c.txt']) writeFileSync(join(folder, name), name);
  const files = async (...args: string[]) => {
    const { name } = (await json('load', ...args, '--wait')) as { name: string };
    const { files: found } = (await json('show', name)) as { files: { path: string }[] };
    await json('rm', name);
    return found.map(({ path }) => path);
  };
  const after = await files('--name', 'after', '--include', 'a*', '--include', 'b*', folder);
  const before = await files(folder, '--name', 'before', '--exclude', 'c*', '--exclude', '*.md');
  expect([after, before]).toEqual([
    ['a.txt', 'b.txt'],
    ['a.txt', 'b.txt'],
  ]);
});

test('handles, hosts, top, doctor', async () => {
  const worker = await lineClient(service.socket);
  onTestFinished(() => void worker.socket.destroy());
  worker.socket.write('{"v":1,"op":"attach","model":"org/m"}\n');
  expect(await worker.line()).toMatchObject({ ok: true });
  expect(await json('handles')).toMatchObject([{ model: 'org/m:latest', worker: { pid: process.pid } }]);
  expect(await run('rm', 'org/m')).toMatchObject({ code: 1, stderr: expect.stringContaining('MODEL_LEASED') });
  expect(await json('hosts')).toMatchObject([{ self: true, state: 'live' }]);
  expect(await run('hosts', 'fence', 'x')).toMatchObject({ code: 2, stderr: expect.stringContaining('add --yes') });
  expect(await run('hosts', 'fence', 'x', '--yes')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('HOST_NOT_FOUND'),
  });
  expect(await json('top')).toMatchObject({ models: [{ name: 'org/m' }], handles: [{}], region: { backing: 'tmpfs' } });
  expect((await run('top')).stdout).toContain('leases 1, 1 workers');
  const findings = (await json('doctor', '--socket', service.socket)) as {
    check: string;
    verdict: string;
    detail: string;
  }[];
  const verdicts = Object.fromEntries(findings.map(({ check, verdict }) => [check, verdict]));
  expect(verdicts).toMatchObject({ node: 'ok', cpu: 'ok', 'native addon': 'ok', service: 'ok', 'worker socket': 'ok' });
  for (const { verdict, detail } of findings) if (verdict !== 'ok') expect(detail).toMatch(/[.)]$/);
});

test('region info and check while the service runs; delete is refused', async () => {
  const info = await runDaxserve(['region', 'info', '--region', service.region, '--json']);
  expect(JSON.parse(info.stdout)).toMatchObject({ path: service.region, backing: 'tmpfs', coherence: 'hardware' });
  const check = await runDaxserve(['region', 'check', '--region', service.region, '--json']);
  expect(check).toMatchObject({ code: 0 });
  expect(JSON.parse(check.stdout)).toMatchObject({ contents: 1, images: 1, findings: [] });
  const kept = await runDaxserve(['region', 'delete', '--region', service.region, '--yes']);
  expect(kept).toMatchObject({ code: 1, stderr: expect.stringContaining('DAXFS_IN_USE') });
});

test('region create, info, check, delete', async () => {
  const path = `${service.region}-2`;
  onTestFinished(() => rmSync(path, { force: true }));
  const on = (...args: string[]) => runDaxserve(['region', ...args, '--region', path]);
  expect(await on('info')).toMatchObject({ code: 1 });
  const rows = ['--contents', '300', '--names', '4096'];
  expect(await on('create', '--size', '32M', '--numa', 'bind:1023')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('DAXFS_BAD_BACKING'),
  });
  expect(await on('create', '--size', 'large')).toMatchObject({ code: 2, stderr: expect.stringContaining('8G') });
  expect(await on('create', '--size', '32M', '--names', '300')).toMatchObject({ code: 2 });
  const created = await on('create', '--size', '32M', ...rows, '--json');
  expect(JSON.parse(created.stdout)).toMatchObject({ size: 32 << 20, capacities: { contents: 300, names: 4096 } });
  expect(await on('create', '--size', '32M')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('DAXFS_ALREADY_CREATED'),
  });
  expect(await on('info')).toMatchObject({ code: 0, stdout: expect.stringContaining('chunks') });
  expect(await on('check')).toMatchObject({ code: 0, stdout: expect.stringContaining('no rule is broken') });
  expect(await on('delete')).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') });
  expect(await on('delete', '--yes')).toMatchObject({ code: 0 });
  expect(await on('delete', '--yes')).toMatchObject({ code: 1 });
});

test('failed loads say why', async () => {
  const bad = join(service.dir, 'bad.safetensors');
  writeFileSync(bad, Buffer.alloc(64, 0xff));
  const failed = await run('load', bad, '--wait');
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('SAFETENSORS_') });
  const asJson = await run('load', join(service.dir, 'none'), '--wait', '--json');
  expect(asJson.code).toBe(1);
  expect(JSON.parse(asJson.stderr)).toMatchObject({ code: 'SOURCE_NOT_FOUND', error: expect.any(String) });
});

test('a service that goes away while a load is followed is said in one line', async () => {
  const model = JSON.stringify({
    name: 'm',
    tag: 'latest',
    state: 'loading',
    bytes: 1,
    progress: { phase: 'copying' },
  });
  const dying = createServer(({ url }, response) => {
    if (url === '/models') return response.writeHead(202, { 'content-type': 'application/json' }).end(model);
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    setImmediate(() => response.destroy());
  });
  await once(dying.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void dying.close());
  const { port } = dying.address() as AddressInfo;
  const followed = await runDaxserve(['load', 'm', '--wait', '--url', `http://127.0.0.1:${port}`]);
  expect(followed).toMatchObject({ code: 1, stderr: expect.stringMatching(/CLIENT_NO_SERVICE\)\n$/) });
});

test('wrong use is exit code 2, help and version 0, no service 1', async () => {
  for (const args of [['frob'], ['ls', '--frob'], ['load'], ['load', 'x', '--placement', 'far'], []])
    expect(await runDaxserve(args)).toMatchObject({ code: 2 });
  expect((await runDaxserve(['lod'])).stderr).toContain('load');
  for (const args of [['--help'], ['--version'], ['load', '--help']])
    expect(await runDaxserve(args)).toMatchObject({ code: 0 });
  const nobody = await runDaxserve(['ls'], { DAXSERVE_URL: 'http://127.0.0.1:1' });
  expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining('daxserve serve') });
});
