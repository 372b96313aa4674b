/** Goal: what breaks before a route sees it is refused as everything else is. Method: undecodable URLs, bytes that are no HTTP. */
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { Compile } from 'typebox/compile';
import { expect, test } from 'vitest';
import { Problem } from '../../server/schemas/problem.ts';
import { testApp } from '../support/web.ts';

test.each([
  { what: 'a broken percent sign', path: '/models/%E0%A4%A' },
  { what: 'no UTF-8', path: '/models/%ff' },
  { what: 'an endless name', path: `/models/${'a'.repeat(2000)}` },
])('a URL with $what', async ({ path }) => {
  const { app } = await testApp(null);
  const { headers, body } = await app.inject(path);
  expect(headers['content-type']).toBe('application/problem+json');
  expect(Compile(Problem).Check(JSON.parse(body))).toBe(true);
  expect(JSON.parse(body)).toMatchObject({ status: 400, code: 'SERVER_BAD_REQUEST' });
});

test.each([
  { what: 'no HTTP', bytes: 'GARBAGE\r\n\r\n', status: 400 },
  { what: 'endless headers', bytes: `GET / HTTP/1.1\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, status: 431 },
])('$what', async ({ bytes, status }) => {
  const { app } = await testApp(null);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  socket.write(bytes);
  const [head = '', body = ''] = (await text(socket)).split('\r\n\r\n');
  expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} [^]*application/problem\\+json`));
  expect(Compile(Problem).Check(JSON.parse(body))).toBe(true);
  expect(JSON.parse(body)).toMatchObject({ status, code: 'SERVER_BAD_REQUEST' });
});
