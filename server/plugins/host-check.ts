/**
 * Refuses requests whose Host or Origin names somebody else. A page of a foreign site can point its own DNS name at
 * this address (DNS rebinding) or post blindly; both show in these headers, and neither can forge them.
 */
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { isLoopback, parseAddress } from '../address.ts';
import type { Config } from '../config.ts';
import { serverError } from '../errors.ts';
import type { App } from '../web.ts';

/** Headers are text from outside: remember verdicts, but not without end. */
const VERDICTS_MAX = 256;

/** The name in a Host header, without port and brackets; null when it is not one. */
function hostName(header: string): string | null {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::\d{1,5})?$/.exec(header.toLowerCase());
  return match?.[1] ?? match?.[2] ?? null;
}

/** Decides about Host headers. An address can't be rebound, so any is fine where we listen beyond loopback. */
export function hostRule(listen: string, allowHost: readonly string[]): (header: string) => boolean {
  const { host } = parseAddress(listen);
  const names = new Set([host, hostname(), ...allowHost].map((name) => name.toLowerCase()));
  const local = isLoopback(host);
  return (header) => {
    const name = hostName(header);
    if (name === null) return false;
    return isLoopback(name) || names.has(name) || (!local && isIP(name) !== 0);
  };
}

function remembered(rule: (key: string) => boolean): (key: string) => boolean {
  const verdicts = new Map<string, boolean>();
  return (key) => {
    const known = verdicts.get(key);
    if (known !== undefined) return known;
    if (verdicts.size >= VERDICTS_MAX) verdicts.clear();
    const verdict = rule(key);
    verdicts.set(key, verdict);
    return verdict;
  };
}

export function installHostCheck(app: App, config: Pick<Config, 'listen' | 'allowHost' | 'allowOrigin'>): void {
  const hostAllowed = remembered(hostRule(config.listen, config.allowHost));
  const origins = new Set(config.allowOrigin.map((origin) => origin.toLowerCase()));
  app.addHook('onRequest', (request, _reply, done) => {
    const host = request.headers.host ?? '';
    if (!hostAllowed(host))
      return done(
        serverError('SERVER_BAD_HOST', 'The Host header names another machine; add the name with --allow-host.'),
      );
    const origin = request.headers.origin?.toLowerCase();
    // Same origin: a page that this service itself served (/docs).
    if (origin === undefined || origin === `http://${host.toLowerCase()}` || origins.has(origin)) return done();
    return done(
      serverError('SERVER_BAD_ORIGIN', 'Pages of other origins may not call this service; see --allow-origin.'),
    );
  });
}
