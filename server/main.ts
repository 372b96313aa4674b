/** One service from start to end: listen at once, open the region, serve, stop on a signal. */
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { parseAddress, urlOf } from './address.ts';
import { buildApp, buildOpsApp } from './app.ts';
import { type Config, printable } from './config.ts';
import { serverError } from './errors.ts';
import { Lifecycle, starting } from './lifecycle.ts';
import { Metrics } from './metrics.ts';
import { missingRoots, type OpenedServices, openServices } from './open-services.ts';
import { stopping } from './problem.ts';
import { socketOptions, WorkerSocket } from './socket/worker-socket.ts';
import type { App, Deps } from './web.ts';

const LINE_TIMEOUT_MS = 10_000;
/** Requests that are still running then are cut off. */
const DRAIN_MS = 10_000;

/** Between two tries to adopt the region anew. */
const REATTACH_MS = 1000;

/** What the command shows while a service runs. */
export interface ServeHooks {
  onReserve?: (done: number, total: number) => void;
}

export interface RunningService {
  /** With the port that was given out when 0 was asked for. */
  url: string;
  socketPath: string;
  /** As of now: opened anew after another host took us for dead. */
  readonly opened: OpenedServices;
  /** Stops in order; a second call hurries. Resolves when everything is closed. */
  stop(): Promise<void>;
}

function logLevel({ logLevel: level }: Config): string {
  if (level !== 'auto') return level;
  return process.stderr.isTTY ? 'warn' : 'info';
}

function createDeps(config: Config): Deps {
  const logger = pino({ level: logLevel(config) }, pino.destination(2));
  const lifecycle = new Lifecycle();
  return { logger, lifecycle, metrics: new Metrics(lifecycle), clock: Date.now };
}

function fixOf({ code }: NodeJS.ErrnoException): string {
  if (code === 'EADDRINUSE') return 'another process has it: stop that one or choose another --listen';
  if (code === 'EACCES') return 'this port needs more rights: choose one above 1023';
  return 'choose an address of this machine';
}

async function listen(app: App, address: string): Promise<string> {
  const { host, port } = parseAddress(address);
  await app.listen({ host, port }).catch((cause: NodeJS.ErrnoException) => {
    throw serverError('SERVER_LISTEN', `${address} cannot be listened on (${cause.code}); ${fixOf(cause)}.`, { cause });
  });
  const bound = app.server.address();
  return urlOf({ host, port: typeof bound === 'object' && bound !== null ? bound.port : port });
}

/** Closes what is given, in order, each however the one before ended. */
async function closeAll(steps: (() => Promise<unknown>)[]): Promise<void> {
  const errors: unknown[] = [];
  for (const step of steps) await step().catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
}

/** Waits for running requests, but not for ever. */
async function drain(app: App, hurry: AbortSignal): Promise<void> {
  const cut = () => app.server.closeAllConnections();
  const timer = setTimeout(cut, DRAIN_MS).unref();
  hurry.addEventListener('abort', cut, { once: true });
  if (hurry.aborted) cut();
  await app.close();
  clearTimeout(timer);
}

class Service {
  readonly #deps: Deps;
  readonly #apps: App[] = [];
  readonly #hurry = new AbortController();
  #socket: WorkerSocket | null = null;
  #opened: OpenedServices | null = null;
  #starting: Promise<RunningService> | null = null;
  #opening: Promise<void> | null = null;
  #stopped: Promise<void> | null = null;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  start(config: Config, hooks: ServeHooks): Promise<RunningService> {
    this.#starting = this.#start(config, hooks);
    return this.#starting;
  }

  /** Health answers from here on, models only once the region is adopted. */
  async #start(config: Config, hooks: ServeHooks): Promise<RunningService> {
    const { logger } = this.#deps;
    logger.info({ config: printable(config) }, 'service.start');
    for (const folder of missingRoots(config))
      logger.warn(
        { event: 'source-root.missing', folder },
        `--source-root ${folder} does not exist; nothing is loaded from it`,
      );
    const app = await buildApp(config, this.#deps);
    this.#apps.push(app);
    this.#socket = await WorkerSocket.listen(socketOptions(config, process.env), {
      ...this.#deps,
      lineTimeoutMs: LINE_TIMEOUT_MS,
    });
    const url = await listen(app, config.listen);
    const opsUrl = config.opsListen === undefined ? undefined : await this.#listenOps(config.opsListen);
    if (this.#stopped) throw stopping();
    const { path: socketPath } = this.#socket;
    this.#opening = this.#adopt(config, socketPath, hooks);
    await this.#opening;
    logger.info({ url, opsUrl, socketPath, region: this.opened.services.region.info() }, 'service.ready');
    const opened = () => this.opened;
    return {
      url,
      socketPath,
      get opened() {
        return opened();
      },
      stop: () => this.stop(),
    };
  }

  /** As of now. @throws ServerError SERVER_STARTING */
  get opened(): OpenedServices {
    if (!this.#opened) throw starting();
    return this.#opened;
  }

  stop(): Promise<void> {
    if (this.#stopped) this.#hurry.abort();
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #listenOps(address: string): Promise<string> {
    const ops = buildOpsApp(this.#deps);
    this.#apps.push(ops);
    return listen(ops, address);
  }

  async #adopt(config: Config, socketPath: string, { onReserve }: ServeHooks): Promise<void> {
    const { logger, lifecycle, metrics, clock } = this.#deps;
    const opened = await openServices({
      config,
      env: process.env,
      logger,
      clock,
      socketPath,
      onEvent: metrics.onStoreEvent,
      onLost: () => {
        this.#opening = this.#reattach(config, socketPath);
      },
      ...(onReserve && { onReserve }),
      signal: lifecycle.endSignal,
    });
    this.#opened = opened;
    lifecycle.adopt(opened.services);
    this.#socket?.adopt(opened.services);
  }

  /** Another host took us for dead: lets go of everything and comes back as a new host, as after a restart. */
  async #reattach(config: Config, socketPath: string): Promise<void> {
    const { lifecycle, logger } = this.#deps;
    const lost = this.#opened;
    lifecycle.lose();
    this.#socket?.dismiss();
    this.#opened = null;
    await lost?.close().catch((err: unknown) => logger.error({ err }, 'service.lost'));
    while (!this.#stopped) {
      try {
        await this.#adopt(config, socketPath, {});
        logger.info('service.reattached');
        return;
      } catch (err) {
        logger.error({ err }, 'service.reattach');
        await sleep(REATTACH_MS);
      }
    }
  }

  /** readyz says 503 and waits end; requests drain; workers are let go; the region is closed last. */
  async #stop(): Promise<void> {
    const { lifecycle, logger } = this.#deps;
    logger.info('service.stop');
    lifecycle.stop();
    // What is still being opened can only be closed afterwards.
    await this.#starting?.catch(() => {});
    await this.#opening?.catch(() => {});
    const drains = this.#apps.map((app) => () => drain(app, this.#hurry.signal));
    await closeAll([...drains, async () => this.#socket?.close(), async () => this.#opened?.close()]);
    logger.info('service.stopped');
  }
}

/** Starts a service; what was opened is closed again when it fails. @throws DaxfsError with the reason */
export async function startService(
  config: Config,
  hooks: ServeHooks = {},
  onStopper: (stop: () => Promise<void>) => void = () => {},
): Promise<RunningService> {
  const service = new Service(createDeps(config));
  onStopper(() => service.stop());
  try {
    return await service.start(config, hooks);
  } catch (error) {
    await service.stop().catch(() => {});
    throw error;
  }
}
