/** The worker socket: a unix stream on which workers attach to models. */
import { createServer, type Server, type Socket } from 'node:net';
import { native } from '../../native/index.ts';
import type { Config } from '../config.ts';
import { serverError } from '../errors.ts';
import type { Services } from '../lifecycle.ts';
import type { Peer } from './attach.ts';
import { Connection, type ConnectionDeps, descriptorOf } from './connection.ts';
import { claimPath, defaultSocketPath, openTo } from './path.ts';

/** Who the kernel shows for a user that our user namespace does not map. */
const OVERFLOW_UID = 65534;

export interface SocketOptions {
  path: string;
  mode: number;
  group?: string;
  /** Only these, our own user and root; empty = whoever the mode lets in. */
  allowUid: readonly number[];
  connectionsPerUidMax: number;
}

/** The options of the socket that a configuration asks for. */
export function socketOptions(config: Config, env: NodeJS.ProcessEnv): SocketOptions {
  const uid = process.getuid?.() ?? 0;
  const shared = config.socketGroup !== undefined || config.allowUid.length > 0;
  // A list of users is checked per connection, so the file itself must let them knock.
  const mode = config.allowUid.length > 0 ? 0o666 : shared ? 0o660 : 0o600;
  return {
    path: config.socket ?? defaultSocketPath(env, uid),
    mode: config.socketMode === undefined ? mode : Number.parseInt(config.socketMode, 8),
    ...(config.socketGroup !== undefined && { group: config.socketGroup }),
    allowUid: config.allowUid,
    connectionsPerUidMax: 1024,
  };
}

export class WorkerSocket {
  readonly path: string;
  readonly #server: Server;
  readonly #options: SocketOptions;
  readonly #deps: ConnectionDeps;
  readonly #unlock: () => void;
  readonly #connections = new Set<Connection>();
  readonly #byUid = new Map<number, number>();
  #unsubscribe: () => void = () => {};
  #closed: Promise<void> | null = null;

  private constructor(path: string, unlock: () => void, options: SocketOptions, deps: ConnectionDeps) {
    this.path = path;
    this.#unlock = unlock;
    this.#options = options;
    this.#deps = deps;
    this.#server = createServer((socket) => this.#onConnection(socket));
  }

  /** Listens. @throws ServerError SERVER_SOCKET_IN_USE, SERVER_SOCKET_BAD_PATH */
  static async listen(options: SocketOptions, deps: ConnectionDeps): Promise<WorkerSocket> {
    const { path, unlock } = await claimPath(options.path, (options.mode & 0o077) !== 0);
    const socket = new WorkerSocket(path, unlock, options, deps);
    try {
      await socket.#listen();
      openTo(path, options.mode, options.group);
    } catch (error) {
      await socket.close();
      throw error;
    }
    return socket;
  }

  /** Draining models are told to their workers from now on. */
  adopt({ leases }: Services): void {
    this.#unsubscribe = leases.onDraining((id) => {
      for (const connection of this.#connections) if (connection.leaseId === id) connection.sendDraining();
    });
  }

  /** Ends every connection, so that workers attach anew; what they have mapped stays theirs. */
  dismiss(): void {
    this.#unsubscribe();
    this.#unsubscribe = () => {};
    for (const connection of this.#connections) connection.close();
  }

  /** Stops listening and ends every connection; what workers have mapped stays theirs. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.dismiss();
    await closed;
    this.#unlock();
  }

  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      // The file appears inside listen(): nobody may connect before its mode and group are set.
      const before = process.umask(0o177);
      try {
        this.#server.listen(this.path, () => {
          this.#server.off('error', reject);
          this.#server.on('error', (err) => this.#deps.logger.error({ err }, 'socket.error'));
          resolve();
        });
      } finally {
        process.umask(before);
      }
    });
  }

  #onConnection(socket: Socket): void {
    let peer: Peer;
    try {
      const { pid, uid } = native.peerCredentials(descriptorOf(socket));
      peer = { pid, uid };
    } catch (err) {
      this.#deps.logger.warn({ err }, 'socket.peer');
      socket.destroy();
      return;
    }
    const connection = new Connection(socket, peer, this.#deps);
    this.#connections.add(connection);
    socket.once('close', () => this.#connections.delete(connection));
    const refusal = this.#refusal(peer);
    if (refusal) connection.refuse(refusal);
    else this.#count(socket, peer);
  }

  /** Only connections that were let in count; refused ones end by themselves within a second. */
  #count(socket: Socket, { uid }: Peer): void {
    this.#byUid.set(uid, (this.#byUid.get(uid) ?? 0) + 1);
    socket.once('close', () => {
      const left = (this.#byUid.get(uid) ?? 1) - 1;
      if (left > 0) this.#byUid.set(uid, left);
      else this.#byUid.delete(uid);
    });
  }

  #refusal({ uid }: Peer): Error | null {
    const { allowUid, connectionsPerUidMax } = this.#options;
    if ((this.#byUid.get(uid) ?? 0) >= connectionsPerUidMax)
      return serverError('SOCKET_TOO_MANY', `User ${uid} has ${connectionsPerUidMax} connections already; close some.`);
    const own = process.getuid?.() ?? 0;
    if (allowUid.length === 0 || uid === 0 || uid === own || allowUid.includes(uid)) return null;
    const hint =
      uid === OVERFLOW_UID ? ' It may come from another user namespace, where its real number is not known.' : '';
    return serverError('SOCKET_UID', `User ${uid} may not attach; add it with --allow-uid.${hint}`);
  }
}
