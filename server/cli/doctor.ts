/** doctor: what this machine can do, what is in the way, and how to change it. */
import type { Command } from 'commander';
import { defaultSocketPath } from '../socket/path.ts';
import { type ApiOptions, clientOf, withApi } from './api-options.ts';
import { doctorChecks, type Finding } from './doctor-checks.ts';
import { print } from './output.ts';

function lines(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  return findings
    .map(({ check, verdict, detail }) => `${verdict.padEnd(4)}  ${check.padEnd(width)}  ${detail}`)
    .join('\n');
}

async function doctor(options: ApiOptions & { socket?: string }): Promise<void> {
  const { env } = process;
  const socket = options.socket ?? env.DAXSERVE_SOCKET ?? defaultSocketPath(env, process.getuid?.() ?? 0);
  const findings: Finding[] = [];
  for (const check of doctorChecks(clientOf(options), socket)) findings.push(await check());
  print(options.json ?? false, findings, () => lines(findings));
  if (findings.some(({ verdict }) => verdict === 'fail')) process.exitCode = 1;
}

export function addDoctor(program: Command): void {
  withApi(program.command('doctor').description('check this machine, with the fix for each finding'))
    .option('--socket <path>', 'worker socket to look at')
    .action(doctor);
}
