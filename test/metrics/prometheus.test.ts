/**
 * Goal: a real Prometheus scrapes the service, every query of the dashboard answers, rules and names pass its own tools.
 * Method: the distribution's `prometheus` and `promtool` beside a real service; skipped, with the reason, where they are missing.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { lineClient } from '../support/line-client.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service } from '../support/service.ts';
import { eventually, until } from '../support/until.ts';

const root = new URL('../..', import.meta.url).pathname;
const present = ['prometheus', 'promtool'].every((name) => spawnSync(name, ['--version']).status === 0);
if (!present) console.warn('skipped: no prometheus here (Debian, Ubuntu: apt-get install prometheus)');

interface Panel {
  title: string;
  targets?: { expr: string }[];
}
const dashboards = readdirSync(join(root, 'grafana/dashboards')).map(
  (name) =>
    JSON.parse(readFileSync(join(root, 'grafana/dashboards', name), 'utf8')) as { title: string; panels: Panel[] },
);
const queries = dashboards.flatMap(({ panels }) =>
  panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => [title, expr] as const)),
);
/** Grafana fills these in. */
const filled = (expr: string) => expr.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '1m');
const rules = readFileSync(join(root, 'grafana/alerts.yml'), 'utf8');
const namesIn = (text: string) => new Set(text.match(/\bdaxserve_[a-z0-9_]+/g) ?? []);

/** The port that it was given, from its log. */
async function portOf({ stderr }: ChildProcess): Promise<string> {
  let log = '';
  stderr!.on('data', (bytes: Buffer) => {
    log += bytes.toString();
  });
  return eventually(() => {
    const port = /msg="Listening on" address=127\.0\.0\.1:(\d+)/.exec(log)?.[1];
    if (port === undefined) throw new Error(`prometheus does not listen:\n${log}`);
    return port;
  });
}

describe.skipIf(!present)('prometheus', () => {
  const service = new Service({ size: '64M' });
  const dir = mkdtempSync(join(tmpdir(), 'daxserve-prometheus-'));
  let prometheus: ChildProcess;
  let api = '';
  let metrics = '';

  interface Result {
    status: string;
    error?: string;
    data: { result: unknown[] };
  }
  /** The moment of a scrape that succeeded: what is asked about it stays true, whatever a busy machine does to later ones. */
  let at = '';
  const query = async (expr: string): Promise<Result> =>
    (await (await fetch(`${api}/api/v1/query?query=${encodeURIComponent(expr)}${at}`)).json()) as Result;

  /** Something of everything that is counted. */
  async function exercise(): Promise<void> {
    const source = join(service.dir, 'm.safetensors');
    writeSafetensors(source, matrices(2, 1 << 20));
    await service.load(source, 'm');
    await service.load(source, 'm');
    const { status } = await service.call('POST', '/models', { source: join(service.dir, 'none') });
    expect(status).toBe(404);
    writeFileSync(join(service.dir, 'bad.safetensors'), Buffer.alloc(64, 0xff));
    await service.call('POST', '/models?wait=true', { source: join(service.dir, 'bad.safetensors') });
    const worker = await lineClient(service.socket);
    worker.socket.write('{"v":1,"op":"attach","model":"m"}\n');
    expect(await worker.line()).toMatchObject({ ok: true });
  }

  beforeAll(async () => {
    await service.start(['--log-level', 'silent']);
    await exercise();
    metrics = await (await fetch(`${service.url}/metrics`)).text();
    const target = new URL(service.url).host;
    const config = readFileSync(join(root, 'grafana/prometheus.yml'), 'utf8')
      .replace('127.0.0.1:8420', target)
      .replaceAll('15s', '1s');
    writeFileSync(join(dir, 'prometheus.yml'), config);
    cpSync(join(root, 'grafana/alerts.yml'), join(dir, 'alerts.yml'));
    const args = [`--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`];
    args.push('--web.listen-address=127.0.0.1:0');
    prometheus = spawn('prometheus', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    api = `http://127.0.0.1:${await portOf(prometheus)}`;
    const scraped = 'timestamp(up{job="daxserve"} == 1 and count_over_time(up{job="daxserve"}[1m]) >= 2)';
    await until(async () => (await query(scraped)).data?.result.length === 1, 'the service was scraped');
    const [{ value }] = (await query(scraped)).data.result as [{ value: [number, string] }];
    at = `&time=${value[1]}`;
  });

  afterAll(async () => {
    if (prometheus?.exitCode === null) {
      prometheus.kill('SIGKILL');
      await once(prometheus, 'exit');
    }
    await service.dispose();
    rmSync(dir, { recursive: true, force: true });
  });

  test('the scrape succeeds', async () => {
    expect((await query('up{job="daxserve"} == 1')).data.result).toHaveLength(1);
  });

  test('metric names pass the linter', () => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
      input: metrics,
      encoding: 'utf8',
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  test('configuration and rules pass the checker', () => {
    expect(
      execFileSync('promtool', ['check', 'config', join(root, 'grafana/prometheus.yml')], { encoding: 'utf8' }),
    ).toContain('SUCCESS');
    expect(
      execFileSync('promtool', ['check', 'rules', join(root, 'grafana/alerts.yml')], { encoding: 'utf8' }),
    ).toContain('SUCCESS');
  });

  test.each(queries)('%s: %s parses and answers', async (_title, expr) => {
    // Rates of counters that never moved have no series; the query must still be sound.
    expect(await query(filled(expr))).toMatchObject({ status: 'success' });
    const gauges = !/rate\(|increase\(/.test(expr);
    if (gauges) expect((await query(filled(expr))).data.result.length).toBeGreaterThan(0);
  });

  test('what was done shows in the numbers', async () => {
    const value = async (expr: string) => {
      const { data } = await query(expr);
      return Number((data.result as { value: [number, string] }[])[0]?.value[1]);
    };
    expect(await value('daxserve_models{state="ready",placement="resident"}')).toBe(1);
    expect(await value('daxserve_model_requests_total{result="miss"}')).toBe(2);
    expect(await value('daxserve_model_requests_total{result="hit"}')).toBe(1);
    expect(await value('daxserve_model_requests_total{result="error"}')).toBe(1);
    expect(await value('daxserve_model_attach_total{model="m:latest",result="hit"}')).toBe(1);
    expect(await value('sum(daxserve_leases)')).toBe(1);
    expect(await value('sum(daxserve_model_load_errors_total)')).toBe(1);
    expect(await value('daxserve_model_bytes{model="m:latest"}')).toBeGreaterThan(1 << 20);
    expect(await value('daxserve_attach_seconds_count{kind="mmap"}')).toBe(1);
  });

  test('dashboard and rules name only metrics that are exported, and the page lists every one', () => {
    const exported = new Set([...metrics.matchAll(/^# TYPE (\S+)/gm)].map((match) => String(match[1])));
    const base = (name: string) => name.replace(/_(bucket|sum|count)$/, '');
    const used = [...namesIn(queries.map(([, expr]) => expr).join('\n')), ...namesIn(rules)];
    // Recorded names have a colon and so do not match in full.
    const unknown = used.filter((name) => !exported.has(name) && !exported.has(base(name)));
    expect(unknown).toEqual([]);
    const page = readFileSync(join(root, 'docs/METRICS.md'), 'utf8');
    const ours = [...exported].filter((name) => name.startsWith('daxserve_'));
    expect(ours.filter((name) => !page.includes(`\`${name}`))).toEqual([]);
    expect([...namesIn(page)].filter((name) => !exported.has(name) && !exported.has(base(name)))).toEqual([]);
  });
});
