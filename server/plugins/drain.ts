/**
 * Closing: connections without a request go at once, busy ones when they have their answer. Node alone would wait for a
 * peer that connected and never asked anything.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { App } from '../web.ts';

export function installDrain(app: App): void {
  /** The last answer begun on each connection; answers of one connection end in order. */
  const answers = new Map<Socket, ServerResponse | null>();
  let closing = false;
  const endAfter = (response: ServerResponse, socket: Socket) => void response.once('close', () => socket.end());
  app.server.on('connection', (socket: Socket) => {
    answers.set(socket, null);
    socket.once('close', () => answers.delete(socket));
  });
  app.server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    answers.set(socket, response);
    if (closing) endAfter(response, socket);
  });
  app.addHook('preClose', async () => {
    closing = true;
    for (const [socket, response] of answers) {
      if (response === null || response.writableFinished) socket.destroy();
      else endAfter(response, socket);
    }
  });
}
