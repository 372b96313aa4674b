/** The region and the hosts attached to it. */
import { pageByKey } from '../paging.ts';
import { listOf } from '../schemas/common.ts';
import { problems } from '../schemas/problem.ts';
import { HostInfo, HostsQuery, RegionInfo } from '../schemas/region.ts';
import type { App, Deps } from '../web.ts';

export function regionRoutes(app: App, { lifecycle }: Deps): void {
  app.get(
    '/region',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['region'],
        operationId: 'getRegion',
        summary: 'Layout, use, free runs, coherence and how strong read-only is',
        response: { 200: RegionInfo, ...problems(401, 500, 503) },
      },
    },
    async () => lifecycle.services.region.info(),
  );
  app.get(
    '/hosts',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['region'],
        operationId: 'listHosts',
        summary: 'Service instances attached to the region',
        querystring: HostsQuery,
        response: { 200: listOf(HostInfo), ...problems(400, 401, 500, 503) },
      },
    },
    async (request) =>
      pageByKey(lifecycle.services.region.hosts(), request.query, 100, ({ row }) => String(row).padStart(3, '0')),
  );
}
