/** Goal: both workers read a real model from the real service, byte for byte. Method: service and workers as processes. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { attach, attachHandle, type Model } from '../../worker/node/index.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { PythonWorker, python } from '../support/python.ts';
import { miniLmDirectory as folder, noPython } from '../support/python-env.ts';
import { Service } from '../support/service.ts';
import { until } from '../support/until.ts';

const compareScript = 'test/support/worker_compare.py';
const workers: PythonWorker[] = [];
afterEach(() => {
  for (const worker of workers.splice(0)) worker.child.kill('SIGKILL');
});

function pythonWorker(...args: string[]): PythonWorker {
  const worker = new PythonWorker(compareScript, ...args);
  workers.push(worker);
  return worker;
}

function filesOf(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));
  return entries.filter((path) => statSync(path).isFile());
}

/** The tensors of a safetensors file, read here and not by the code under test. */
function sourceTensors(path: string): Map<string, { dtype: string; shape: number[]; bytes: Buffer }> {
  const file = readFileSync(path);
  const data = 8 + Number(file.readBigUInt64LE());
  const header = JSON.parse(file.toString('utf8', 8, data)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__');
  return new Map(
    tensors.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => [name, { dtype, shape, bytes: file.subarray(data + from, data + to) }],
    ),
  );
}

function compare(m: Model, folder: string): void {
  const files = filesOf(folder);
  for (const path of files) {
    expect(Buffer.compare(m.file(relative(folder, path)), readFileSync(path)), path).toBe(0);
  }
  expect(m.files.size).toBe(files.length);
  const tensors = files.filter((path) => path.endsWith('.safetensors')).flatMap((path) => [...sourceTensors(path)]);
  expect(m.tensors.size).toBe(tensors.length);
  for (const [name, { dtype, shape, bytes }] of tensors) {
    const tensor = m.tensor(name);
    expect([tensor.dtype, tensor.shape]).toEqual([dtype, shape]);
    expect(Buffer.compare(tensor.bytes, bytes), name).toBe(0);
  }
}

function sum(m: Model): string {
  const hash = createHash('sha256');
  for (const name of m.tensors.keys()) hash.update(m.tensor(name).bytes);
  return hash.digest('hex');
}

describe.skipIf(noPython)('a real model', () => {
  let service: Service;
  beforeAll(async () => {
    service = new Service({ size: '256M', args: ['--source-root', folder] });
    await service.start();
    await service.load(folder, 'org/minilm');
  });
  afterAll(() => service.dispose());

  it('Node reads every byte', async () => {
    await using m = await attach('org/minilm', { socket: service.socket });
    compare(m, folder);
    expect(m.format).toBe('safetensors');
    const { body } = await service.call('GET', '/models/org%2Fminilm');
    expect([m.digest, m.name]).toEqual([body.digest, 'org/minilm:latest']);
  });

  it('Python reads every byte, as the safetensors package does', async () => {
    const worker = pythonWorker(service.socket, 'org/minilm', folder);
    const tensors = sourceTensors(join(folder, 'model.safetensors')).size;
    expect(await worker.next()).toMatchObject({ tensors, files: filesOf(folder).length });
  });

  it('many workers of both languages see the same bytes', async () => {
    const [first, ...models] = await Promise.all(
      Array.from({ length: 4 }, () => attach('org/minilm', { socket: service.socket })),
    );
    const python = [1, 2].map(() => pythonWorker(service.socket, 'org/minilm', folder));
    const sums = await Promise.all(python.map(async (worker) => (await worker.next()).sum));
    expect(new Set([...sums, sum(first!), ...models.map(sum)]).size).toBe(1);
    await Promise.all([first!, ...models].map((m) => m.close()));
  });

  it('python -m daxserve prints the tensors', () => {
    const env = { ...process.env, PYTHONPATH: new URL('../../worker/python', import.meta.url).pathname };
    const args = ['-m', 'daxserve', 'attach', 'org/minilm', '--socket', service.socket];
    const out = execFileSync(python, args, { encoding: 'utf8', env });
    expect(out).toContain('embeddings.word_embeddings.weight');
    expect(out).toMatch(/org\/minilm:latest {2}safetensors {2}\d+ tensors/);
  });

  it('a part of the model', async () => {
    await using m = await attach('org/minilm', { socket: service.socket, files: ['config.json'] });
    expect([m.tensors.size, ...m.files.keys()]).toEqual([0, 'config.json']);
    const name = 'embeddings.word_embeddings.weight';
    await using one = await attach('org/minilm', { socket: service.socket, tensors: [name] });
    expect([...one.tensors.keys()]).toEqual([name]);
    const missing = attach('org/minilm', { socket: service.socket, tensors: ['nope'] });
    await expect(missing).rejects.toMatchObject({ code: 'TENSOR_NOT_FOUND' });
  });

  it('a handle reserved over HTTP is taken once', async () => {
    const { status, body } = await service.call('POST', '/models/org%2Fminilm/handles', {});
    expect(status).toBe(201);
    const [id, token] = [String(body.id), String(body.token)];
    const wrong = attachHandle(id, 'x'.repeat(43), { socket: service.socket });
    await expect(wrong).rejects.toMatchObject({ code: 'HANDLE_BAD_TOKEN' });
    await using m = await attachHandle(id, token, { socket: service.socket });
    expect(m.file('config.json').length).toBe(612);
    const again = attachHandle(id, token, { socket: service.socket });
    await expect(again).rejects.toMatchObject({ code: 'HANDLE_ATTACHED' });
  });
});

describe('life of an attachment', () => {
  let service: Service;
  let file: string;
  beforeAll(async () => {
    service = new Service({ size: '128M' });
    file = join(service.dir, 'a.safetensors');
    writeSafetensors(file, matrices(5, 8 << 20), 7);
    await service.start();
    await service.load(file, 'org/a');
  });
  afterAll(() => service.dispose());

  const leases = async () => ((await service.call('GET', '/handles')).body.items as unknown[]).length;

  it('names that are not there', async () => {
    const missing = attach('org/none', { socket: service.socket });
    await expect(missing).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    const other = attach('org/a', { socket: service.socket, digest: '0'.repeat(64) });
    await expect(other).rejects.toMatchObject({ code: 'MODEL_MISMATCH' });
  });

  it('an attach that loads and waits', async () => {
    const source = join(service.dir, 'b.safetensors');
    writeSafetensors(source, matrices(3, 4 << 20), 9);
    await using m = await attach('org/b', { socket: service.socket, source, wait: 60 });
    compareOne(m, source);
  });

  function compareOne(m: Model, source: string): void {
    for (const [name, { bytes }] of sourceTensors(source)) expect(Buffer.compare(m.tensor(name).bytes, bytes)).toBe(0);
  }

  it('the lease ends with close and with the process', async () => {
    // The service learns of the leases that earlier tests closed a moment later.
    await until(async () => (await leases()) === 0);
    const m = await attach('org/a', { socket: service.socket });
    expect(await leases()).toBe(1);
    await m.close();
    await until(async () => (await leases()) === 0);
  });

  it('both come back after the service was killed, with their bytes', async () => {
    const both = join(service.dir, 'both');
    cpSync(file, join(both, 'a.safetensors'));
    await service.load(both, 'org/both');
    await using m = await attach('org/both', { socket: service.socket });
    const expected = sum(m);
    const worker = noPython ? undefined : pythonWorker(service.socket, 'org/both', both, 'hold');
    if (worker) expect((await worker.next()).sum).toBe(expected);

    await service.stop('SIGKILL');
    await until(() => !m.attached);
    if (worker) expect(await worker.next()).toEqual({ event: 'detached' });
    expect(sum(m)).toBe(expected);
    await service.start();
    await until(() => m.attached);
    if (worker) expect(await worker.next()).toEqual({ event: 'reattached' });
    worker?.send('sum');
    if (worker) expect(await worker.next()).toEqual({ sum: expected, attached: true });
    expect(sum(m)).toBe(expected);
    expect(await leases()).toBe(worker ? 2 : 1);
  });

  it('a drained content tells its workers and keeps their bytes', async () => {
    const source = join(service.dir, 'c.safetensors');
    writeSafetensors(source, matrices(2, 4 << 20), 11);
    await service.load(source, 'org/c');
    const m = await attach('org/c', { socket: service.socket });
    const expected = sum(m);
    expect((await service.call('DELETE', '/models/org%2Fc')).status).toBe(409);
    expect((await service.call('DELETE', '/models/org%2Fc?drain=true')).status).toBe(202);
    await until(() => m.draining);
    await expect(attach('org/c', { socket: service.socket })).rejects.toMatchObject({
      code: expect.stringMatching(/^MODEL_NOT_(READY|FOUND)$/),
    });
    expect(sum(m)).toBe(expected);
    await m.close();
    await until(async () => (await service.call('GET', '/models/org%2Fc')).status === 404);
  });
});
