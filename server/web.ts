/** Types of the web layer that plugins and routes share. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { Lifecycle } from './lifecycle.ts';
import type { Metrics } from './metrics.ts';

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** open: no token needed. read: look and lease. admin: change models. */
export type Scope = 'open' | 'read' | 'admin';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Scope that a call needs where tokens are in force; admin when absent. */
    scope?: Scope;
  }
}

/** What the app is built on. */
export interface Deps {
  lifecycle: Lifecycle;
  metrics: Metrics;
  logger: FastifyBaseLogger;
  /** Milliseconds since the Unix epoch. */
  clock: () => number;
}
