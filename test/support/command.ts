/** Runs `daxserve` as a user does. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const root = new URL('../..', import.meta.url).pathname;

export interface CommandResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export async function runDaxserve(args: string[], env: Record<string, string> = {}): Promise<CommandResult> {
  const child = spawn(process.execPath, [`${root}bin/daxserve.js`, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const result: CommandResult = { code: null, stdout: '', stderr: '' };
  child.stdout.on('data', (bytes: Buffer) => {
    result.stdout += bytes.toString();
  });
  child.stderr.on('data', (bytes: Buffer) => {
    result.stderr += bytes.toString();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { ...result, code };
}
