/** Builds an app for `inject`, adopted or not, and closes it after the test. */
import pino from 'pino';
import { onTestFinished } from 'vitest';
import { buildApp } from '../../server/app.ts';
import { type Config, loadConfig } from '../../server/config.ts';
import { Lifecycle, type Services } from '../../server/lifecycle.ts';
import { Metrics } from '../../server/metrics.ts';
import type { App, Deps } from '../../server/web.ts';

export function testDeps(services: Services | null): Deps {
  const lifecycle = new Lifecycle();
  const metrics = new Metrics(lifecycle);
  if (services) {
    lifecycle.adopt(services);
    services.store.onEvent(metrics.onStoreEvent);
  }
  return { lifecycle, metrics, logger: pino({ level: 'silent' }), clock: Date.now };
}

/** The caller closes it. */
export async function buildTestApp(
  deps: Deps,
  flags: Record<string, unknown> = {},
): Promise<{ app: App; config: Config }> {
  const config = loadConfig({ flags: { logLevel: 'silent', ...flags }, folder: '/nonexistent' });
  return { app: await buildApp(config, deps), config };
}

export async function testApp(
  services: Services | null,
  flags: Record<string, unknown> = {},
): Promise<{ app: App; deps: Deps; config: Config }> {
  const deps = testDeps(services);
  const { app, config } = await buildTestApp(deps, flags);
  onTestFinished(() => app.close());
  return { app, deps, config };
}
