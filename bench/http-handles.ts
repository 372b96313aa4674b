/**
 * Bar: POST /models/{name}/handles answers at least 0.7 x as many requests a second as a bare Fastify route with the same
 * schema, logger and answer. Both listen in one process, a second process asks; rounds alternate. A round is measured once
 * leases end as fast as they begin, and the next one starts when none is left, so that each side pays for its own.
 * BENCH_CONNECTIONS.
 */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Fastify, { LogController } from 'fastify';
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
const CONNECTIONS = Number(process.env.BENCH_CONNECTIONS ?? 8);
/** Longer than a lease lives. */
const WARM_MS = 1500;
const MEASURED_MS = 2000;
const BODY = '{"ttlSeconds":1}';

// ------------------------------------------------------------------------------------------------------ the client

interface Round {
  port: number;
  warmMs: number;
  measuredMs: number;
}

interface Rate {
  perSecond: number;
  /** In the whole round. */
  answers: number;
  /** Part of one processor that the client used. */
  clientBusy: number;
}

/** With the server's own time, which a busy machine disturbs less than the rate. */
interface Measured extends Rate {
  microsecondsEach: number;
}

/** Asks over one connection, the next as soon as the last is answered. All answers have the length of the first. */
class Asker {
  answers = 0;
  readonly #socket: Socket;
  readonly #request: Buffer;
  readonly #fail: (error: Error) => void;
  #length = 0;
  #received = 0;

  constructor(socket: Socket, request: Buffer, fail: (error: Error) => void) {
    this.#socket = socket;
    this.#request = request;
    this.#fail = fail;
    socket.on('error', fail);
    socket.on('data', (bytes: Buffer) => this.#take(bytes));
    socket.write(request);
  }

  #take(bytes: Buffer): void {
    if (this.#received === 0 && bytes.toString('latin1', 9, 12) !== '201') this.#fail(new Error(bytes.toString()));
    this.#length ||= lengthOf(bytes);
    this.#received += bytes.length;
    if (this.#received > this.#length) this.#fail(new Error('answers differ in length'));
    if (this.#received < this.#length) return;
    this.#received = 0;
    this.answers += 1;
    this.#socket.write(this.#request);
  }
}

/** Bytes of an answer whose head is whole in its first piece. */
function lengthOf(bytes: Buffer): number {
  const text = bytes.toString('latin1');
  return text.indexOf('\r\n\r\n') + 4 + Number(/content-length: (\d+)/i.exec(text)?.[1]);
}

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket.setNoDelay(true);
}

async function requestsPerSecond({ port, warmMs, measuredMs }: Round): Promise<Rate> {
  const head = ['POST /models/m/handles HTTP/1.1', 'Host: localhost', 'Content-Type: application/json'];
  const request = Buffer.from([...head, `Content-Length: ${BODY.length}`, '', BODY].join('\r\n'));
  const sockets = await Promise.all(Array.from({ length: CONNECTIONS }, () => connected(port)));
  const fail = (error: Error) => {
    throw error;
  };
  const askers = sockets.map((socket) => new Asker(socket, request, fail));
  const answers = () => askers.reduce((sum, asker) => sum + asker.answers, 0);
  await sleep(warmMs);
  const [before, cpu, started] = [answers(), process.cpuUsage(), process.hrtime.bigint()];
  await sleep(measuredMs);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const { user, system } = process.cpuUsage(cpu);
  const perSecond = (answers() - before) / seconds;
  for (const socket of sockets) socket.destroy();
  return { perSecond, answers: answers(), clientBusy: (user + system) / 1e6 / seconds };
}

function runClient(): void {
  process.on('message', (round: Round) => void requestsPerSecond(round).then((rate) => process.send?.(rate)));
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

/** Nothing is written on either side: requests are counted, not logged. */
const logger = pino({ level: 'info' }, pino.destination('/dev/null'));

async function listenBare(canned: HandleShape): Promise<{ port: number; close: () => Promise<void> }> {
  const app = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
  });
  const schema = { params: ModelParams, body: HandleBody, response: { 201: Handle } };
  app.post('/models/:name/handles', { schema }, async (_request, reply) => reply.code(201).send(canned));
  await app.listen({ port: 0, host: '127.0.0.1' });
  return { port: (app.server.address() as { port: number }).port, close: () => app.close() };
}

async function listenReal(folder: string) {
  const path = `/dev/shm/daxserve-bench-${randomBytes(6).toString('hex')}`;
  const region = await Region.create({ path, size: 64 * 2 ** 20 });
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
  const { token, ...canned } = await opened.leases.reserve('m', { ttlSeconds: 3600 });
  const untilFree = async () => {
    while (opened.leases.counts().mmap > 1) await sleep(50);
  };
  const { port } = app.server.address() as { port: number };
  return { port, canned: { ...canned, token: token ?? '' }, untilFree, close };
}

async function runServers(): Promise<void> {
  title(`POST /models/{name}/handles against a bare Fastify route, requests a second over ${CONNECTIONS} connections`);
  const folder = mkdtempSync(join(tmpdir(), 'daxserve-bench-'));
  writeModel(folder);
  const real = await listenReal(folder);
  const bare = await listenBare(real.canned);
  const client = fork(fileURLToPath(import.meta.url), ['client']);
  const measure = async (port: number): Promise<Measured> => {
    const before = process.cpuUsage();
    client.send({ port, warmMs: WARM_MS, measuredMs: MEASURED_MS } satisfies Round);
    const [rate] = (await once(client, 'message')) as [Rate];
    await real.untilFree();
    const { user, system } = process.cpuUsage(before);
    return { ...rate, microsecondsEach: (user + system) / rate.answers };
  };
  const rates = { real: [] as Measured[], bare: [] as Measured[] };
  for (let round = -1; round < ROUNDS; round++) {
    const pair = { bare: await measure(bare.port), real: await measure(real.port) };
    if (round < 0) continue; // warm-up
    rates.bare.push(pair.bare);
    rates.real.push(pair.real);
  }
  client.disconnect();
  const show = (label: string, side: Measured[]) => {
    const times = side.map(({ microsecondsEach }) => microsecondsEach);
    row(`${label}, processor time`, times, 'us');
    const perSecond = side.map((rate) => rate.perSecond);
    return { rate: row(label, perSecond, '/s').median, time: Math.min(...times) };
  };
  const inBare = show('bare Fastify route', rates.bare);
  const inReal = show('daxserve, lease taken', rates.real);
  console.log(
    `client: at most ${Math.max(...rates.bare.map(({ clientBusy }) => clientBusy)).toFixed(2)} of a processor`,
  );
  console.log(`least processor time of a request, bare / daxserve: ${(inBare.time / inReal.time).toFixed(3)}`);
  bar('ratio of rates', inReal.rate / inBare.rate, '>= 0.7', inReal.rate / inBare.rate >= 0.7);
  await Promise.all([real.close(), bare.close()]);
  rmSync(folder, { recursive: true, force: true });
}

if (process.argv[2] === 'client') runClient();
else await runServers();
