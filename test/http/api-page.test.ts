/** Goal: docs/API.md is what the schemas say. Method: generate in memory and compare. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { apiDocument, apiMarkdown } from '../../server/emit-api.ts';

test('docs/API.md equals its generator', async () => {
  const page = readFileSync(new URL('../../docs/API.md', import.meta.url), 'utf8');
  expect(page === apiMarkdown(await apiDocument()) ? 'same' : 'run "npm run gen"').toBe('same');
});

test('every call has a summary, an operation id and a tag, and every id is its own', async () => {
  const { paths } = (await apiDocument()) as {
    paths: Record<string, Record<string, { operationId?: string; tags?: string[]; summary: string }>>;
  };
  const operations = Object.values(paths).flatMap((methods) => Object.values(methods));
  for (const { summary, operationId, tags } of operations)
    expect({ summary, operationId, tags }).toEqual({
      summary: expect.any(String),
      operationId: expect.any(String),
      tags: [expect.any(String)],
    });
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
});
