/** GET /openapi.json from the route schemas, and Swagger UI on /docs with nothing fetched from elsewhere. */
import fastifySwagger from '@fastify/swagger';
import fastifySwaggerUi from '@fastify/swagger-ui';
import { VERSION } from '../version.ts';
import type { App } from '../web.ts';

const DESCRIPTION = [
  'Loads model weights once into shared memory and hands out zero-copy handles to them.',
  'Errors are `application/problem+json`; lists are `{items, next?}`; sizes and offsets are bytes; times are RFC 3339.',
  'Clients ignore unknown keys in answers; unknown keys in requests are refused.',
].join('\n\n');

/** Must run before the routes are declared. */
export async function installOpenapi(app: App): Promise<void> {
  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'daxserve', version: VERSION, description: DESCRIPTION, license: { name: 'Apache-2.0' } },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      tags: [
        { name: 'models', description: 'load, list, move and remove models' },
        { name: 'handles', description: "a worker's right to a model and where its bytes are" },
        { name: 'region', description: 'the memory and who is attached' },
        { name: 'service', description: 'health, metrics, this document' },
      ],
    },
  });
  await app.register(fastifySwaggerUi, { routePrefix: '/docs', uiConfig: { docExpansion: 'list' } });
  app.get('/openapi.json', { config: { scope: 'open' }, schema: { hide: true } }, async () => app.swagger());
}

/** Routes of the documentation pages are declared by their plugin; they are open as the document itself is. */
export function openDocs(app: App): void {
  app.addHook('onRoute', (route) => {
    if (route.url.startsWith('/docs')) route.config = { ...route.config, scope: 'open' };
  });
}
