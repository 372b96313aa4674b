/** Where the worker socket is, who may open it, and what an earlier service left behind. */
import {
  chmodSync,
  chownSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { native } from '../../native/index.ts';
import { serverError } from '../errors.ts';

/** sun_path has 108 bytes with its NUL. */
const PATH_BYTES_MAX = 107;
const SYSTEM_SOCKET = '/run/daxserve/daxserve.sock';

/** The path when none is given: the system's for root, the user's own otherwise. */
export function defaultSocketPath(env: NodeJS.ProcessEnv, uid: number): string {
  if (uid === 0) return SYSTEM_SOCKET;
  const runtime = env.XDG_RUNTIME_DIR;
  // Without a runtime folder (cron, a bare container) a private folder has to do; workers then need DAXSERVE_SOCKET.
  return runtime ? join(runtime, 'daxserve/daxserve.sock') : join(tmpdir(), `daxserve-${uid}`, 'daxserve.sock');
}

function badPath(message: string): Error {
  return serverError('SERVER_SOCKET_BAD_PATH', message);
}

/** Creates the folder: open to others only where the socket's own mode lets others in. */
function prepareFolder(path: string, shared: boolean): void {
  const folder = dirname(path);
  mkdirSync(folder, { recursive: true, mode: shared ? 0o755 : 0o700 });
  const { uid, mode } = statSync(folder);
  const own = process.getuid?.() ?? 0;
  const foreign = uid !== own && uid !== 0;
  const sticky = (mode & 0o1000) !== 0;
  if (foreign || ((mode & 0o002) !== 0 && !sticky))
    throw badPath(`Others may replace files in ${folder}; choose a --socket in a folder of your own.`);
}

function isLive(path: string): Promise<boolean> {
  return new Promise((settle) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      settle(true);
    });
    probe.once('error', () => settle(false));
  });
}

/** Removes the socket of a dead service. */
async function clearStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw badPath(`${path} exists and is not a socket; remove it or choose another --socket.`);
  if (await isLive(path)) throw inUse(path);
  unlinkSync(path);
}

function inUse(path: string): Error {
  return serverError('SERVER_SOCKET_IN_USE', `Another service listens on ${path}; stop it or choose another --socket.`);
}

/** Holds the path against other services until the descriptor is closed, also against one that starts right now. */
function lockPath(path: string): number {
  const fd = openSync(`${path}.lock`, 'a+', 0o600);
  if (native.ofdLock(fd, 'write', 0, 1)) return fd;
  closeSync(fd);
  throw inUse(path);
}

/** Makes the path free to listen on. @returns its absolute path, and a function that gives up the claim */
export async function claimPath(given: string, shared: boolean): Promise<{ path: string; unlock: () => void }> {
  const path = resolve(given);
  if (Buffer.byteLength(path) > PATH_BYTES_MAX)
    throw badPath(`${path} is longer than ${PATH_BYTES_MAX} bytes; choose a shorter --socket.`);
  prepareFolder(path, shared);
  const fd = lockPath(path);
  const unlock = () => closeSync(fd);
  try {
    await clearStale(path);
  } catch (error) {
    unlock();
    throw error;
  }
  return { path, unlock };
}

function groupId(group: string): number {
  if (/^\d+$/.test(group)) return Number(group);
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${group}:`));
  const id = Number(line?.split(':')[2]);
  if (line === undefined || !Number.isInteger(id))
    throw serverError(
      'SERVER_BAD_CONFIG',
      `There is no group ${group} here; give --socket-group a known name or number.`,
    );
  return id;
}

/** Gives the listening socket its mode and group. */
export function openTo(path: string, mode: number, group: string | undefined): void {
  if (group !== undefined) chownSync(path, -1, groupId(group));
  chmodSync(path, mode);
}
