/** The web application: an ordered list of plugins and routes, without a socket of its own. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, { LogController } from 'fastify';
import { brokenRequests } from './broken-requests.ts';
import type { Config } from './config.ts';
import { installAuth, readTokens } from './plugins/auth.ts';
import { installDrain } from './plugins/drain.ts';
import { installHostCheck } from './plugins/host-check.ts';
import { installMetrics } from './plugins/metrics.ts';
import { installOpenapi, openDocs } from './plugins/openapi.ts';
import { installProblems } from './problem.ts';
import { eventRoutes } from './routes/events.ts';
import { handleRoutes } from './routes/handles.ts';
import { healthRoutes } from './routes/health.ts';
import { modelRoutes } from './routes/models.ts';
import { problemRoutes } from './routes/problems.ts';
import { regionRoutes } from './routes/region.ts';
import { tensorRoutes } from './routes/tensors.ts';
import { validatorCompiler } from './validate.ts';
import type { App, Deps } from './web.ts';

const BODY_BYTES_MAX = 1024 * 1024;
const HEADERS_MS = 20_000;

function createApp(deps: Deps): App {
  const app = Fastify({
    loggerInstance: deps.logger,
    // The hot path counts, it does not log.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: HEADERS_MS,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 1024, ignoreTrailingSlash: true },
    ...brokenRequests,
  }).withTypeProvider<TypeBoxTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  // Only JSON is read: a form or plain text would let foreign pages post without asking first.
  app.removeContentTypeParser('text/plain');
  installProblems(app);
  installDrain(app);
  return app;
}

/** The API. @throws ServerError SERVER_BAD_CONFIG for a listen that needs tokens and has none */
export async function buildApp(config: Config, deps: Deps): Promise<App> {
  const app = createApp(deps);
  installHostCheck(app, config);
  installAuth(app, readTokens(config));
  openDocs(app);
  await installOpenapi(app);
  installMetrics(app, deps, 'read');
  healthRoutes(app, deps);
  modelRoutes(app, deps);
  tensorRoutes(app, deps);
  eventRoutes(app, deps);
  handleRoutes(app, deps);
  regionRoutes(app, deps);
  problemRoutes(app);
  return app;
}

/** For kubelet and Prometheus: healthz, readyz, metrics, nothing that tells names of files or changes anything. */
export function buildOpsApp(deps: Deps): App {
  const app = createApp(deps);
  installMetrics(app, deps, 'open');
  healthRoutes(app, deps);
  return app;
}
