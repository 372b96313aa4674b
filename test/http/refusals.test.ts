/** Goal: a refusal says in words what is wanted. Method: `inject` against canned services. */
import { expect, test } from 'vitest';
import { stubServices } from '../support/stub-services.ts';
import { testApp } from '../support/web.ts';

test.each([
  ['POST', '/models', { source: '/m', name: 'a b' }, 'body/name'],
  ['GET', '/models/-m', undefined, 'path/name'],
  ['POST', '/models', { source: '/m', name: 'a'.repeat(70) }, 'body/name'],
] as const)('a bad model name is refused in words: %s %s', async (method, url, payload, place) => {
  const { app } = await testApp(stubServices());
  const response = await app.inject({ method, url, ...(payload && { payload }) });
  expect([response.statusCode, response.json()]).toMatchObject([400, { code: 'SERVER_BAD_REQUEST', place }]);
  const { detail } = response.json() as { detail: string };
  expect(detail).toMatch(/^\S+ is no model name; use .*letters, digits.* such as org\/model:v1\.$/);
});
