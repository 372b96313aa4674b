/** Is the process up, and may it be used? */

import { problems } from '../schemas/problem.ts';
import { Health, Ready } from '../schemas/region.ts';
import { VERSION } from '../version.ts';
import type { App, Deps } from '../web.ts';

export function healthRoutes(app: App, { lifecycle, clock }: Pick<Deps, 'lifecycle' | 'clock'>): void {
  const startedAt = clock();
  app.get(
    '/healthz',
    {
      config: { scope: 'open' },
      schema: {
        tags: ['service'],
        operationId: 'health',
        summary: 'The process is up, also while the region is being created',
        response: { 200: Health, ...problems() },
      },
    },
    async () => ({
      status: lifecycle.phase === 'ready' ? 'ok' : lifecycle.phase,
      version: VERSION,
      uptimeSeconds: (clock() - startedAt) / 1000,
    }),
  );
  app.get(
    '/readyz',
    {
      config: { scope: 'open' },
      schema: {
        tags: ['service'],
        operationId: 'ready',
        summary: 'The region is adopted and models can be used',
        response: { 200: Ready, ...problems(500, 503) },
      },
    },
    async () => ({ status: 'ready', region: lifecycle.services.region.info().uuid }),
  );
}
