/** The version of this build, from package.json. */
import { existsSync, readFileSync } from 'node:fs';

function packageJson(): string {
  // From the sources it is one folder up, from dist/ two.
  const found = ['../package.json', '../../package.json'].find((path) => existsSync(new URL(path, import.meta.url)));
  if (!found) throw new Error('package.json is missing beside the service; install it again.');
  return readFileSync(new URL(found, import.meta.url), 'utf8');
}

export const VERSION: string = (JSON.parse(packageJson()) as { version: string }).version;
