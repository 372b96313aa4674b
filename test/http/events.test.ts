/**
 * Goal: progress events arrive in order, end with the load, and neither slow nor lost peers cost anything.
 * Method: a real listener with a store whose changes the test makes.
 */

import { once } from 'node:events';
import { connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { ApiClient } from '../../server/client.ts';
import type { Model } from '../../server/services.ts';
import { model, stubServices } from '../support/stub-services.ts';
import { until } from '../support/until.ts';
import { testApp } from '../support/web.ts';

async function listening() {
  const listeners = new Set<(model: Model) => void>();
  const loading = (bytesDone: number): Model =>
    model({ state: 'loading', progress: { ...model().progress, phase: 'copying', bytesDone } });
  const services = stubServices({
    store: {
      get: async () => ({ ...loading(0), files: [] }),
      watch: (_name, listener) => {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    },
  });
  const { app, deps } = await testApp(services);
  const url = await app.listen({ port: 0, host: '127.0.0.1' });
  const tell = (seen: Model) => {
    for (const listener of listeners) listener(seen);
  };
  return { app, deps, url, listeners, tell, loading };
}

const opened = (listeners: Set<unknown>) => until(() => listeners.size > 0);

test('events: progress at each change, settled at the end, then the stream ends', async () => {
  const { url, tell, loading, listeners } = await listening();
  const seen: string[] = [];
  const watching = (async () => {
    for await (const got of new ApiClient(url).watch('org/m')) seen.push(`${got.state} ${got.progress.bytesDone}`);
  })();
  await opened(listeners);
  tell(loading(10));
  tell(loading(20));
  tell(model());
  await watching;
  expect(seen).toEqual(['loading 0', 'loading 10', 'loading 20', 'ready 4096']);
  await until(() => listeners.size === 0);
});

test('the stream is plain server-sent events', async () => {
  const { url, tell, listeners } = await listening();
  const response = await fetch(`${url}/models/org%2Fm/events`);
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  expect(response.headers.get('cache-control')).toBe('no-store');
  await opened(listeners);
  tell(model({ state: 'failed', error: { code: 'SOURCE_NOT_FOUND', detail: 'x' } }));
  const text = await response.text();
  expect(text).toMatch(/^event: progress\ndata: \{.*\}\n\nevent: settled\ndata: \{.*"error":\{.*\}\n\n$/);
  expect(text).not.toContain('"files"');
});

test('a peer that does not read gets the newest state when it reads again, not a backlog', async () => {
  const { url, tell, loading, listeners } = await listening();
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  socket.pause();
  socket.write('GET /models/org%2Fm/events HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await opened(listeners);
  const changes = 40_000;
  for (let i = 1; i <= changes; i++) {
    tell(loading(i));
    if (i % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  tell(model());
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes.toString();
  });
  socket.resume();
  await until(() => text.includes('event: settled'));
  expect(text.split('event: progress').length).toBeLessThan(changes);
});

test('a peer that goes away is forgotten', async () => {
  const { url, listeners } = await listening();
  const gone = new AbortController();
  const response = await fetch(`${url}/models/org%2Fm/events`, { signal: gone.signal });
  await opened(listeners);
  gone.abort();
  await response.text().catch(() => {});
  await until(() => listeners.size === 0);
});

test('closing the service ends the streams, and does not wait for them', async () => {
  const { app, url, listeners } = await listening();
  const response = await fetch(`${url}/models/org%2Fm/events`);
  await opened(listeners);
  await app.close();
  expect(await response.text()).toContain('event: progress');
});
