/** Leases over HTTP: reserve, list, renew, release. Descriptors go over the worker socket only. */
import Type from 'typebox';
import { answer } from '../paced-json.ts';
import { listOf } from '../schemas/common.ts';
import {
  HandleBody,
  HandleInList,
  HandleParams,
  Handle as HandleSchema,
  HandlesQuery,
  RenewBody,
} from '../schemas/handle.ts';
import { ModelParams } from '../schemas/model.ts';
import { problems } from '../schemas/problem.ts';
import type { Handle } from '../services.ts';
import type { App, Deps } from '../web.ts';

/** What is the same in all handles to a whole content, and most of an answer; by its `buffers`, which are the same array. */
const sharedTexts = new WeakMap<Handle['buffers'], string>();

function sharedText(handle: Handle): string {
  const { id: _, token: __, model: ___, expiresAt: ____, ...shared } = handle;
  const text = JSON.stringify(shared).slice(1);
  sharedTexts.set(handle.buffers, text);
  return text;
}

/** JSON of a new handle. What differs from one to the next (base64url, a model's full name, a time) needs no escapes. */
function textOf(handle: Handle): string {
  const { id, token, model, expiresAt } = handle;
  const shared = sharedTexts.get(handle.buffers) ?? sharedText(handle);
  return `{"id":"${id}","token":"${token}","model":"${model}","expiresAt":"${expiresAt}",${shared}`;
}

function reserveRoute(app: App, { lifecycle }: Deps): void {
  app.post(
    '/models/:name/handles',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['handles'],
        operationId: 'createHandle',
        summary: 'Reserve a lease; attach it on the worker socket before it expires',
        params: ModelParams,
        body: HandleBody,
        response: { 201: HandleSchema, ...problems(400, 401, 404, 409, 413, 415, 500, 501, 503) },
      },
    },
    async (request, reply) => {
      const handle = await lifecycle.services.leases.reserve(request.params.name, request.body);
      reply.code(201).header('location', `/handles/${handle.id}`).type('application/json; charset=utf-8');
      return reply.serializer(textOf).send(answer(reply, handle));
    },
  );
}

export function handleRoutes(app: App, deps: Deps): void {
  const { lifecycle } = deps;
  reserveRoute(app, deps);
  app.get(
    '/handles',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['handles'],
        operationId: 'listHandles',
        summary: 'Leases held now, without their tokens',
        querystring: HandlesQuery,
        response: { 200: listOf(HandleInList), ...problems(400, 401, 500, 503) },
      },
    },
    async (request, reply) => answer(reply, lifecycle.services.leases.page(request.query)),
  );
  app.put(
    '/handles/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['handles'],
        operationId: 'renewHandle',
        summary: 'Move the end of an unattached lease',
        params: HandleParams,
        body: RenewBody,
        response: { 200: HandleSchema, ...problems(400, 401, 404, 410, 413, 415, 500, 503) },
      },
    },
    async (request, reply) =>
      answer(reply, lifecycle.services.leases.renew(request.params.id, request.body.ttlSeconds)),
  );
  app.delete(
    '/handles/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['handles'],
        operationId: 'releaseHandle',
        summary: 'End a lease in the books; memory is freed when nobody maps it any more',
        params: HandleParams,
        response: { 204: Type.Null({ description: 'released' }), ...problems(400, 401, 404, 410, 500, 503) },
      },
    },
    async (request, reply) => {
      await lifecycle.services.leases.release(request.params.id);
      return reply.code(204).send(null);
    },
  );
}
