/**
 * A small real service for worker tests: a region in shared memory, a unix socket, the wire protocol with range locks,
 * and scripted faults. It is not the service under test elsewhere; it exists to misbehave on purpose.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, unlinkSync, writeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { native } from '../../native/index.ts';

export const CHUNK = 2 * 2 ** 20;
export const MANIFEST = '.daxserve/manifest.json';
export const DIGEST = 'ab'.repeat(32);

export interface PeerTensor {
  name: string;
  dtype: string;
  shape: number[];
  file: string;
  offset: number;
  length: number;
}

interface PeerFile {
  path: string;
  size: number;
  digest: string;
  extents: { fileOffset: number; bufferOffset: number; length: number }[];
}

/** The JSON of a handle, open for damage. */
export interface PeerHandle {
  [key: string]: unknown;
  region: Record<string, unknown>;
  buffers: { size: number; files: PeerFile[] }[];
}

const TENSORS: [name: string, dtype: string, shape: number[], length: number][] = [
  ['f32', 'F32', [2, 3], 24],
  ['f64', 'F64', [2], 16],
  ['i64', 'I64', [], 8],
  ['u64', 'U64', [1], 8],
  ['bf16', 'BF16', [2, 4], 16],
  ['f16', 'F16', [2, 2], 8],
  ['i16', 'I16', [4], 8],
  ['bool', 'BOOL', [4], 4],
  ['f8', 'F8_E4M3', [3], 3],
  ['odd', 'F32', [2], 8],
  ['f4', 'F4', [2, 3], 3],
  ['q4', 'Q4_0', [1, 32], 18],
  ['empty', 'F32', [0, 5], 0],
];

/** Files at chunk 1 and, far away, at chunk 40. */
export class PeerRegion {
  readonly size = 48 * CHUNK;
  readonly fd: number;
  readonly files = new Map<string, PeerFile>();
  readonly contents = new Map<string, Buffer>();
  readonly tensors: PeerTensor[] = [];

  constructor() {
    const path = `/dev/shm/daxserve-test-peer-${process.pid}-${randomBytes(6).toString('hex')}`;
    this.fd = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    ftruncateSync(this.fd, this.size);
    this.put('w.safetensors', randomBytes(TENSORS.reduce((sum, t) => sum + t[3], 0)), CHUNK);
    this.put('config.json', Buffer.from('{"hidden_size": 384}'), CHUNK + 4096);
    this.put('far.safetensors', randomBytes(3 * CHUNK + 5), 40 * CHUNK);
    this.put('empty.txt', Buffer.alloc(0), 0);
    let offset = 0;
    for (const [name, dtype, shape, length] of TENSORS) {
      this.tensors.push({ name, dtype, shape, file: 'w.safetensors', offset, length });
      offset += length;
    }
    this.tensors.push({
      name: 'far',
      dtype: 'U8',
      shape: [3 * CHUNK],
      file: 'far.safetensors',
      offset: 5,
      length: 3 * CHUNK,
    });
    this.putManifest({});
  }

  put(path: string, bytes: Buffer, offset: number): void {
    writeSync(this.fd, bytes, 0, bytes.length, offset);
    const extents = bytes.length > 0 ? [{ fileOffset: 0, bufferOffset: offset, length: bytes.length }] : [];
    this.files.set(path, { path, size: bytes.length, digest: '0'.repeat(32), extents });
    this.contents.set(path, bytes);
  }

  /** Writes the manifest, with some of its members replaced, or other bytes in its place. */
  putManifest(changes: Record<string, unknown> | Buffer): void {
    const manifest = {
      version: 1,
      format: 'safetensors',
      source: 'test',
      revision: null,
      files: [],
      metadata: { a: 1 },
    };
    const text = JSON.stringify({ ...manifest, tensors: this.tensors, ...changes });
    this.put(MANIFEST, Buffer.isBuffer(changes) ? changes : Buffer.from(text), CHUNK + 8192);
  }

  expected(name: string): Buffer {
    const tensor = this.tensors.find((t) => t.name === name)!;
    return this.contents.get(tensor.file)!.subarray(tensor.offset, tensor.offset + tensor.length);
  }

  /** Every byte of the region, as it is now. */
  snapshot(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    readSync(this.fd, bytes, 0, length, offset);
    return bytes;
  }

  /** A fresh read-only description with a read lock on chunk 1, as the service makes for each lease. */
  lockedFd(): number {
    const fd = native.reopen(this.fd, false);
    native.ofdLock(fd, 'read', CHUNK, CHUNK);
    return fd;
  }

  /** True when no lease's lock lies on chunk 1. */
  mayReuse(): boolean {
    return !native.ofdHeld(this.fd, CHUNK, CHUNK);
  }

  handle(files?: string[]): PeerHandle {
    const chosen = [...this.files.values()].filter((f) => !files || files.includes(f.path) || f.path === MANIFEST);
    return {
      id: 'h1',
      kind: 'mmap',
      model: 'org/m:latest',
      revision: 'abc123',
      digest: DIGEST,
      region: { uuid: 'u-1', path: null, size: this.size, mapAlignment: 4096 },
      socket: null,
      buffers: [{ size: this.size, files: structuredClone(chosen) }],
      manifest: MANIFEST,
      expiresAt: null,
    };
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** One accepted worker. */
export class PeerConnection {
  readonly region: PeerRegion;
  readonly socket: Socket;
  readonly request: Record<string, unknown>;

  constructor(region: PeerRegion, socket: Socket, request: Record<string, unknown>) {
    this.region = region;
    this.socket = socket;
    this.request = request;
  }

  /** Sends bytes with descriptors. */
  send(data: string | Buffer, fds: number[] = []): void {
    const { fd } = (this.socket as unknown as { _handle: { fd: number } })._handle;
    native.sendFds(fd, Buffer.from(data), fds);
  }

  /** Answers with a handle (damaged first) and a locked descriptor. */
  grant(damage: (handle: PeerHandle) => void = () => {}, tail = ''): void {
    const handle = this.region.handle(this.request.files as string[] | undefined);
    damage(handle);
    const fd = this.region.lockedFd();
    this.send(`${JSON.stringify({ ok: true, handle })}\n${tail}`, [fd]);
    closeSync(fd);
  }

  refuse(code: string): void {
    this.send(`${JSON.stringify({ ok: false, code, error: 'No.' })}\n`);
  }
}

export type Script = (connection: PeerConnection) => void;

export class Peer {
  readonly path: string;
  readonly region = new PeerRegion();
  readonly requests: Record<string, unknown>[] = [];
  readonly open = new Set<Socket>();
  script: Script = (connection) => connection.grant();
  readonly #folder = mkdtempSync(join(tmpdir(), 'daxw-'));
  #server: Server | undefined;

  constructor() {
    this.path = join(this.#folder, 's.sock');
  }

  async start(): Promise<this> {
    this.#server = createServer((socket) => this.#serve(socket)).listen(this.path);
    await once(this.#server, 'listening');
    return this;
  }

  /** As a service that dies: nobody listens any more and every connection breaks. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.open) socket.destroy();
    await closed;
  }

  /** Stops and forgets everything. */
  async end(): Promise<void> {
    await this.stop();
    this.region.close();
    rmSync(this.#folder, { recursive: true });
  }

  #serve(socket: Socket): void {
    this.open.add(socket);
    socket.on('close', () => this.open.delete(socket));
    socket.on('error', () => {});
    let line = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      line += text;
      if (!line.endsWith('\n')) return;
      const request = JSON.parse(line) as Record<string, unknown>;
      line = '';
      this.requests.push(request);
      this.script(new PeerConnection(this.region, socket, request));
    });
  }
}
