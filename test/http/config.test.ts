/**
 * Goal: the configuration comes from the right place, and every mistake is refused with a name and a fix.
 * Method: loadConfig with given flags, environment and files.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { loadConfig, printable } from '../../server/config.ts';
import { CONFIG_KEYS } from '../../server/config-schema.ts';
import { parseTokens, readTokens } from '../../server/plugins/auth.ts';

function folder(files: Record<string, string> = {}): string {
  const path = mkdtempSync(join(tmpdir(), 'daxserve-config-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}

const refusal = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    expect(error).toMatchObject({ code: 'SERVER_BAD_CONFIG' });
    return (error as Error).message;
  }
  throw new Error('was not refused');
};

test('defaults listen on loopback', () => {
  expect(loadConfig({ folder: folder() })).toMatchObject({
    listen: '127.0.0.1:8420',
    evict: false,
    coherence: 'hardware',
  });
});

test('flags beat the environment, which beats the file, which beats the defaults', () => {
  const at = folder({
    'daxserve.toml': 'listen = "127.0.0.1:1"\nhost-id = "file"\nevict = true\nnuma = "interleave"\n',
  });
  const env = { DAXSERVE_LISTEN: '127.0.0.1:2', DAXSERVE_HOST_ID: 'env' };
  const config = loadConfig({ folder: at, env, flags: { listen: '127.0.0.1:3', hostId: undefined } });
  expect(config).toMatchObject({
    listen: '127.0.0.1:3',
    hostId: 'env',
    evict: true,
    numa: 'interleave',
    coherence: 'hardware',
  });
});

test('toml and json, kebab, snake and camel case, sizes as numbers', () => {
  const toml = folder({ 'daxserve.toml': 'source_root = ["/a", "/b"]\nsize = 1073741824\n' });
  expect(loadConfig({ folder: toml })).toMatchObject({ sourceRoot: ['/a', '/b'], size: '1073741824' });
  const json = folder({ 'daxserve.json': '{"sourceRoot":["/a"],"allowUid":[7]}' });
  expect(loadConfig({ folder: json })).toMatchObject({ sourceRoot: ['/a'], allowUid: [7] });
});

test('the environment can say lists, numbers and switches', () => {
  const env = {
    DAXSERVE_SOURCE_ROOT: '/a, /b',
    DAXSERVE_ALLOW_UID: '1,2',
    DAXSERVE_EVICT: 'yes',
    DAXSERVE_HANDLES: '9',
  };
  expect(loadConfig({ folder: folder(), env })).toMatchObject({
    sourceRoot: ['/a', '/b'],
    allowUid: [1, 2],
    evict: true,
    handles: 9,
  });
});

test('unknown keys are refused with the nearest known one, wherever they are', () => {
  expect(refusal(() => loadConfig({ folder: folder({ 'daxserve.toml': 'lisen = "x"' }) }))).toContain(
    'did you mean listen?',
  );
  expect(refusal(() => loadConfig({ folder: folder(), env: { DAXSERVE_LISTN: 'x' } }))).toContain('DAXSERVE_LISTEN');
  expect(refusal(() => loadConfig({ folder: folder(), flags: { evct: true } }))).toContain('did you mean evict?');
});

test("variables that Kubernetes sets for a service of this name, and the commands' own, are let be", () => {
  const env = {
    DAXSERVE_PORT: 'tcp://1',
    DAXSERVE_SERVICE_HOST: '1',
    DAXSERVE_PORT_8420_TCP_ADDR: '1',
    DAXSERVE_URL: 'x',
  };
  expect(() => loadConfig({ folder: folder(), env })).not.toThrow();
});

test.each([
  ['listen', 'nowhere'],
  ['opsListen', '127.0.0.1'],
  ['size', '8 gigs'],
  ['numa', 'bind'],
  ['coherence', 'maybe'],
  ['socketMode', '9'],
  ['handles', 0],
  ['allowUid', [-1]],
  ['hostId', 'a/b'],
])('%s = %j is refused and the flag named', (key, value) => {
  expect(refusal(() => loadConfig({ folder: folder(), flags: { [key]: value } }))).toContain(
    CONFIG_KEYS.get(key)?.flag,
  );
});

test('a wrong word is refused with those that are known', () => {
  const refused = refusal(() => loadConfig({ folder: folder(), flags: { coherence: 'none' } }));
  expect(refused).toContain('hardware, software');
});

test('broken files are named', () => {
  expect(refusal(() => loadConfig({ folder: folder({ 'daxserve.json': '{' }) }))).toContain('daxserve.json');
  expect(refusal(() => loadConfig({ folder: folder({ 'daxserve.json': '[]' }) }))).toContain('table');
  expect(refusal(() => loadConfig({ file: '/nonexistent/x.toml' }))).toContain('/nonexistent/x.toml');
  expect(refusal(() => loadConfig({ folder: folder(), env: { DAXSERVE_EVICT: 'perhaps' } }))).toContain(
    'true or false',
  );
});

test('the configuration is frozen and prints without secrets', () => {
  const config = loadConfig({ folder: folder(), flags: { tokenFile: '/secret/place' } });
  expect(Object.isFrozen(config) && Object.isFrozen(config.sourceRoot)).toBe(true);
  expect(JSON.stringify(printable(config))).not.toContain('/secret/place');
});

test('beyond loopback a token file is needed; loopback in any spelling is free', () => {
  for (const listen of ['0.0.0.0:1', '[::]:1', '10.0.0.1:1', 'example.org:1'])
    expect(refusal(() => readTokens({ listen }))).toContain('--token-file');
  for (const listen of ['127.0.0.1:1', '127.9.9.9:1', '[::1]:1', 'localhost:1'])
    expect(readTokens({ listen })).toBeNull();
  expect(refusal(() => readTokens({ listen: '127.0.0.1:1', tokenFile: '/nonexistent' }))).toContain('/nonexistent');
});

test('token files: scopes, comments, and no token in a refusal', () => {
  const text = '# people\nread aaaaaaaaaaaaaaaaaaaa\n\nadmin bbbbbbbbbbbbbbbbbbbb\r\n';
  expect(parseTokens(text, 'f').map(({ scope }) => scope)).toEqual(['read', 'admin']);
  for (const bad of ['aaaaaaaaaaaaaaaaaaaaaaa', 'write aaaaaaaaaaaaaaaaaaaa', 'read short', '', 'read a b'])
    expect(refusal(() => parseTokens(bad, 'f'))).not.toContain('aaaaaaaa');
});
