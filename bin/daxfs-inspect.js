#!/usr/bin/env node
import { existsSync } from 'node:fs';

const main = new URL('../dist/daxfs/inspect.js', import.meta.url);
if (!existsSync(main)) {
  process.stderr.write('daxfs-inspect: not built yet; run "npm run setup" in the daxserve folder.\n');
  process.exit(1);
}
process.exitCode = await (await import(main.href)).main(process.argv.slice(2));
