/** GET /metrics: the text format of Prometheus. */
import Type from 'typebox';
import { problems } from '../schemas/problem.ts';
import type { App, Deps, Scope } from '../web.ts';

export function installMetrics(app: App, { metrics }: Pick<Deps, 'metrics'>, scope: Scope): void {
  app.get(
    '/metrics',
    {
      config: { scope },
      schema: {
        tags: ['service'],
        summary: 'Metrics in the text format of Prometheus',
        operationId: 'metrics',
        response: {
          200: {
            description: 'text/plain; version=0.0.4',
            content: { 'text/plain': { schema: Type.String() } },
          } as unknown as ReturnType<typeof Type.String>,
          ...problems(401, 500),
        },
      },
    },
    async (_request, reply) => {
      reply.header('content-type', metrics.contentType);
      return metrics.scrape();
    },
  );
}
