/**
 * Bar: POST /models/{name}/handles answers at least 0.7 x as many requests a second as a bare Fastify route with the same
 * schema that returns a canned handle. Both listen in one process, a second process asks; rounds alternate.
 */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Fastify from 'fastify';
import pino from 'pino';
import { Region } from '../daxfs/region.ts';
import { buildApp } from '../server/app.ts';
import { loadConfig } from '../server/config.ts';
import { Lifecycle } from '../server/lifecycle.ts';
import { Metrics } from '../server/metrics.ts';
import { regionView } from '../server/region-view.ts';
import { Handle, HandleBody } from '../server/schemas/handle.ts';
import { ModelParams } from '../server/schemas/model.ts';
import type { Handle as HandleShape } from '../server/services.ts';
import { openStore } from '../server/store/open-store.ts';
import { bar, row, title } from './report.ts';

const ROUNDS = 9;
const REQUESTS = 4000;
const CONNECTIONS = 8;
const BODY = '{"ttlSeconds":1}';

// ------------------------------------------------------------------------------------------------------ the client

/** Asks `count` times over one connection, the next as soon as the last is answered. */
function ask(socket: Socket, request: string, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = count;
    let received = '';
    socket.on('error', reject);
    socket.on('data', (bytes) => {
      received += bytes.toString('latin1');
      const head = received.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(received)?.[1]);
      if (head < 0 || received.length < head + 4 + length) return;
      if (!received.startsWith('HTTP/1.1 201')) return reject(new Error(received.slice(0, 400)));
      received = '';
      left -= 1;
      if (left === 0) resolve();
      else socket.write(request);
    });
    socket.write(request);
  });
}

async function requestsPerSecond(port: number): Promise<number> {
  const request = [
    'POST /models/m/handles HTTP/1.1',
    'Host: localhost',
    'Content-Type: application/json',
    `Content-Length: ${BODY.length}`,
    '',
    BODY,
  ].join('\r\n');
  const sockets = await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect');
      return socket.setNoDelay(true);
    }),
  );
  const started = process.hrtime.bigint();
  await Promise.all(sockets.map((socket) => ask(socket, request, REQUESTS / CONNECTIONS)));
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  for (const socket of sockets) socket.destroy();
  return REQUESTS / seconds;
}

function runClient(): void {
  process.on('message', (port: number) => void requestsPerSecond(port).then((rate) => process.send?.(rate)));
}

// ------------------------------------------------------------------------------------------------------ the servers

/** A sharded model as they come: 4 files, 300 tensors. */
function writeModel(folder: string): void {
  for (let shard = 0; shard < 4; shard++) {
    const tensors = Array.from({ length: 75 }, (_, i) => [
      `layers.${shard}.${i}.weight`,
      { dtype: 'BF16', shape: [64], data_offsets: [i * 128, (i + 1) * 128] },
    ]);
    const header = Buffer.from(JSON.stringify(Object.fromEntries(tensors)));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    writeFileSync(join(folder, `part-${shard}.safetensors`), Buffer.concat([length, header, Buffer.alloc(75 * 128)]));
  }
}

async function listenBare(canned: HandleShape): Promise<{ port: number; close: () => Promise<void> }> {
  const app = Fastify();
  const schema = { params: ModelParams, body: HandleBody, response: { 201: Handle } };
  app.post('/models/:name/handles', { schema }, async (_request, reply) => reply.code(201).send(canned));
  await app.listen({ port: 0, host: '127.0.0.1' });
  return { port: (app.server.address() as { port: number }).port, close: () => app.close() };
}

async function listenReal(folder: string) {
  const path = `/dev/shm/daxserve-bench-${randomBytes(6).toString('hex')}`;
  const region = await Region.create({ path, size: 64 * 2 ** 20 });
  const logger = pino({ level: 'silent' });
  const opened = await openStore({ region, sources: { roots: [folder] }, evict: false, log: logger });
  await opened.store.load({ source: folder, name: 'm' });
  await opened.store.settled('m');
  const lifecycle = new Lifecycle();
  const deps = { lifecycle, metrics: new Metrics(lifecycle), logger, clock: Date.now };
  lifecycle.adopt({ ...opened, region: regionView(region, opened.registry) });
  const app = await buildApp(loadConfig({ folder }), deps);
  await app.listen({ port: 0, host: '127.0.0.1' });
  const close = async () => {
    await app.close();
    await opened.close();
    region.close();
    rmSync(path, { force: true });
  };
  const canned = await opened.leases.reserve('m', { ttlSeconds: 60 });
  return { port: (app.server.address() as { port: number }).port, canned, close };
}

async function runServers(): Promise<void> {
  title('POST /models/{name}/handles against a bare Fastify route, requests a second');
  const folder = mkdtempSync(join(tmpdir(), 'daxserve-bench-'));
  writeModel(folder);
  const real = await listenReal(folder);
  const bare = await listenBare(real.canned);
  const client = fork(fileURLToPath(import.meta.url), ['client']);
  const measure = async (port: number): Promise<number> => {
    client.send(port);
    return Number((await once(client, 'message'))[0]);
  };
  const rates = { real: [] as number[], bare: [] as number[] };
  for (let round = -1; round < ROUNDS; round++) {
    const pair = { bare: await measure(bare.port), real: await measure(real.port) };
    if (round < 0) continue; // warm-up
    rates.bare.push(pair.bare);
    rates.real.push(pair.real);
  }
  client.disconnect();
  const bareRate = row('bare Fastify route', rates.bare, '/s').median;
  const realRate = row('daxserve, 5 files, 300 tensors, lease taken', rates.real, '/s').median;
  bar('ratio', realRate / bareRate, '>= 0.7', realRate / bareRate >= 0.7);
  await Promise.all([real.close(), bare.close()]);
  rmSync(folder, { recursive: true, force: true });
}

if (process.argv[2] === 'client') runClient();
else await runServers();
