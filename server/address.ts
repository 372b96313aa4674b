/** Listen addresses and which names reach them. */
import { isIP } from 'node:net';
import { serverError } from './errors.ts';

export interface Address {
  host: string;
  port: number;
}

/** Splits HOST:PORT; IPv6 in brackets. @throws ServerError SERVER_BAD_CONFIG */
export function parseAddress(text: string): Address {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535)
    throw serverError('SERVER_BAD_CONFIG', `"${text}" is not an address: write HOST:PORT with a port up to 65535.`);
  return { host, port };
}

export function isLoopback(host: string): boolean {
  const name = host.toLowerCase();
  if (isIP(name) === 4) return name.startsWith('127.');
  if (isIP(name) === 6) return name === '::1' || /^::ffff:127\./.test(name);
  return name === 'localhost' || name.endsWith('.localhost');
}

/** An address as one writes it in a URL. */
export function urlOf({ host, port }: Address): string {
  return `http://${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}
