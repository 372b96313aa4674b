/** A raw client of the worker socket: what a worker in any language would do, and what none should. */

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface LineClient {
  socket: Socket;
  /** The next line, or null when the connection ended first. */
  line(): Promise<Record<string, unknown> | null>;
  /** Resolves when the connection has ended. */
  ended: Promise<void>;
}

export async function lineClient(path: string): Promise<LineClient> {
  const socket = connect(path);
  socket.on('error', () => {});
  // Not once(): that rejects on an error, and a reset is an end like any other.
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await once(socket, 'connect');
  const lines: string[] = [];
  let rest = '';
  let wake = () => {};
  socket.on('data', (bytes) => {
    const parts = (rest + bytes.toString()).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
    wake();
  });
  let over = false;
  void ended.then(() => {
    over = true;
    wake();
  });
  const line = async () => {
    while (lines.length === 0 && !over) await new Promise<void>((resolve) => (wake = resolve));
    const text = lines.shift();
    return text === undefined ? null : (JSON.parse(text) as Record<string, unknown>);
  };
  return { socket, line, ended };
}
