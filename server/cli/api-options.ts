/** Options that every command against a running service shares. */
import type { Command } from 'commander';
import { ApiClient, DEFAULT_URL } from '../client.ts';

export interface ApiOptions {
  url: string;
  token?: string;
  json?: boolean;
}

/** Adds --url, --token and --json. The environment is read here and nowhere deeper. */
export function withApi(command: Command): Command {
  return command
    .option('--url <url>', 'address of the service (DAXSERVE_URL)', process.env.DAXSERVE_URL ?? DEFAULT_URL)
    .option('--token <token>', 'bearer token (DAXSERVE_TOKEN)')
    .option('--json', 'print JSON');
}

export function clientOf({ url, token = process.env.DAXSERVE_TOKEN }: ApiOptions): ApiClient {
  return new ApiClient(url, token);
}
