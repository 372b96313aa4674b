/** Writes the published schema of the manifest: `node dist/loaders/emit.js`. A test compares file and generator. */
import { writeFileSync } from 'node:fs';
import { manifestSchemaText } from './manifest-schema.ts';

const here = new URL('.', import.meta.url);
const root = here.pathname.endsWith('/dist/loaders/') ? '../../' : '../';
writeFileSync(new URL(`${root}docs/manifest.schema.json`, here), manifestSchemaText());
