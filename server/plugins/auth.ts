/** Bearer tokens: `scope token` lines of --token-file, compared in constant time, never logged. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isLoopback, parseAddress } from '../address.ts';
import type { Config } from '../config.ts';
import { serverError } from '../errors.ts';
import type { App, Scope } from '../web.ts';

interface Token {
  scope: 'read' | 'admin';
  hash: Buffer;
}

const TOKEN_BYTES_MIN = 16;

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** Reads `scope token` lines; empty lines and # comments are skipped. @throws ServerError SERVER_BAD_CONFIG with the line */
export function parseTokens(text: string, path: string): Token[] {
  const tokens: Token[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const match = /^(read|admin)[ \t]+(\S+)[ \t]*$/.exec(line);
    const [, scope, token] = match ?? [];
    const where = `${path}, line ${index + 1}`;
    if (token === undefined || (scope !== 'read' && scope !== 'admin'))
      throw serverError('SERVER_BAD_CONFIG', `${where}: write "read TOKEN" or "admin TOKEN".`);
    if (token.length < TOKEN_BYTES_MIN)
      throw serverError('SERVER_BAD_CONFIG', `${where}: the token is shorter than ${TOKEN_BYTES_MIN} characters.`);
    tokens.push({ scope, hash: hashOf(token) });
  }
  if (tokens.length === 0) throw serverError('SERVER_BAD_CONFIG', `${path} holds no token; add "admin TOKEN".`);
  return tokens;
}

/** The tokens in force; null = no token needed. A listen beyond loopback without tokens is refused. */
export function readTokens(config: Pick<Config, 'listen' | 'tokenFile'>): Token[] | null {
  if (config.tokenFile !== undefined) {
    try {
      return parseTokens(readFileSync(config.tokenFile, 'utf8'), config.tokenFile);
    } catch (cause) {
      if (!(cause instanceof Error && 'syscall' in cause)) throw cause;
      throw serverError('SERVER_BAD_CONFIG', `The token file cannot be read: ${cause.message}.`, { cause });
    }
  }
  if (isLoopback(parseAddress(config.listen).host)) return null;
  throw serverError(
    'SERVER_BAD_CONFIG',
    `--listen ${config.listen} is reachable from other machines: give --token-file, or use --ops-listen for probes and metrics only.`,
  );
}

/** The scope of a token; every known token is compared, so that time tells nothing. */
function scopeOf(tokens: readonly Token[], given: string): 'read' | 'admin' | null {
  const hash = hashOf(given);
  let scope: 'read' | 'admin' | null = null;
  for (const token of tokens) if (timingSafeEqual(token.hash, hash) && scope !== 'admin') scope = token.scope;
  return scope;
}

function refusal(tokens: readonly Token[], needed: Exclude<Scope, 'open'>, header: string | undefined): Error | null {
  const given = /^bearer +(\S+) *$/i.exec(header ?? '')?.[1];
  const scope = given === undefined ? null : scopeOf(tokens, given);
  if (scope === null)
    return serverError('SERVER_UNAUTHORIZED', 'Send "Authorization: Bearer TOKEN" with a token of the token file.');
  if (needed === 'admin' && scope !== 'admin')
    return serverError('SERVER_SCOPE', 'This call needs a token of scope admin.');
  return null;
}

export function installAuth(app: App, tokens: readonly Token[] | null): void {
  if (tokens === null) return;
  app.addHook('onRequest', (request, _reply, done) => {
    const needed = request.is404 ? 'read' : (request.routeOptions.config.scope ?? 'admin');
    if (needed === 'open') return done();
    const error = refusal(tokens, needed, request.headers.authorization);
    return error ? done(error) : done();
  });
}
