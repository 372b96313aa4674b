/** Errors on the wire: ErrorKind -> HTTP status, any error -> an RFC 9457 body. Nothing else knows both sides. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { DaxfsError, type ErrorKind } from '../daxfs/errors.ts';
import { type CodeEntry, findCode } from './codes.ts';
import { type ServerErrorCode, serverError } from './errors.ts';
import type { Problem } from './schemas/problem.ts';
import type { LoadFailure } from './services.ts';
import type { App } from './web.ts';

export const STATUS: Readonly<Record<ErrorKind, number>> = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  cancelled: 409,
  stale: 410,
  range: 416,
  malformed: 422,
  corrupt: 500,
  unsupported: 501,
  unavailable: 503,
  closed: 503,
  exhausted: 503,
  timeout: 504,
  full: 507,
};

/** Kinds that share a status with others but have a better one of their own. */
const STATUS_OF_CODE: Partial<Record<string, number>> = {
  SERVER_BODY_TOO_LARGE: 413,
  SERVER_MEDIA_TYPE: 415,
};

const RETRY_AFTER_SECONDS = 2;

export function statusOf(code: string, kind: ErrorKind): number {
  return STATUS_OF_CODE[code] ?? STATUS[kind];
}

/** The body for an error. @param instance path of the request */
export function problemOf(error: DaxfsError, instance?: string): Problem {
  return {
    ...error.extra,
    type: `/problems/${error.code}`,
    title: error.title,
    status: statusOf(error.code, error.kind),
    detail: error.message,
    code: error.code,
    error: error.message,
    ...(instance !== undefined && { instance }),
    ...(error.offset !== undefined && { offset: error.offset }),
  };
}

/** The error that a model in state failed or cancelled stands for: the reason of its load, with its own code. */
export function errorOfLoad({ code, detail, ...details }: LoadFailure): DaxfsError {
  const entry: CodeEntry = findCode(code) ?? { kind: 'conflict', title: 'The load failed' };
  return new DaxfsError({ [code]: entry }, code, detail, details);
}

const FASTIFY_CODES: Partial<Record<string, ServerErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'SERVER_BODY_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'SERVER_MEDIA_TYPE',
  FST_ERR_NOT_FOUND: 'SERVER_NO_ROUTE',
};

/** Anything thrown in a handler as an error of ours; what we did not foresee becomes SERVER_INTERNAL. */
export function toDaxfsError(error: unknown): DaxfsError {
  if (error instanceof DaxfsError) return error;
  const { code, statusCode, message } = error as Partial<FastifyError>;
  const known = code === undefined ? undefined : FASTIFY_CODES[code];
  if (known) return serverError(known, `${message ?? 'Refused'}: send JSON of at most 1 MiB.`, { cause: error });
  if (statusCode === 503) return stopping();
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return serverError('SERVER_BAD_REQUEST', `${message ?? 'The request is not valid'}.`, { cause: error });
  return serverError('SERVER_INTERNAL', 'The service failed on this request; its log says why.', { cause: error });
}

export function stopping(): DaxfsError {
  return serverError('SERVER_STOPPING', 'The service is stopping; ask again when it is back. Weights stay in place.');
}

export function sendProblem(request: FastifyRequest, reply: FastifyReply, error: DaxfsError): FastifyReply {
  const body = problemOf(error, request.url);
  if (body.status === 503) reply.header('retry-after', String(RETRY_AFTER_SECONDS));
  if (body.status === 401) reply.header('www-authenticate', 'Bearer realm="daxserve"');
  return reply.code(body.status).type('application/problem+json').serializer(JSON.stringify).send(body);
}

/** Error and not-found handlers of an app. */
export function installProblems(app: App): void {
  app.setErrorHandler((thrown, request, reply) => {
    const error = toDaxfsError(thrown);
    if (error.code === 'SERVER_INTERNAL') request.log.error({ err: thrown, url: request.url }, 'request.failed');
    return sendProblem(request, reply, error);
  });
  app.setNotFoundHandler((request, reply) =>
    sendProblem(
      request,
      reply,
      serverError('SERVER_NO_ROUTE', `There is no call ${request.method} ${request.url}; see /docs.`),
    ),
  );
}
