/** The region and the hosts attached to it. */
import { pageByKey } from '../paging.ts';
import { listOf } from '../schemas/common.ts';
import { problems } from '../schemas/problem.ts';
import { FencedHost, HostInfo, HostParams, HostsQuery, RegionInfo } from '../schemas/region.ts';
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
  app.post(
    '/hosts/:name/fence',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['region'],
        operationId: 'fenceHost',
        summary: "The operator's word that a host and all its workers are gone: what it held is given back",
        params: HostParams,
        response: { 200: FencedHost, ...problems(400, 401, 403, 404, 409, 500, 503) },
      },
    },
    async (request) => lifecycle.services.fence(request.params.name),
  );
}
