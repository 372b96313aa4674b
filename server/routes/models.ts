/** Load, look up, move and remove models. */
import Type from 'typebox';
import { fullName, modelPath } from '../model-name.ts';
import { answer } from '../paced-json.ts';
import { pageByKey } from '../paging.ts';
import { errorOfLoad } from '../problem.ts';
import { listOf } from '../schemas/common.ts';
import {
  DigestParams,
  LoadBody,
  LoadQuery,
  Model,
  ModelParams,
  ModelsQuery,
  RemoveQuery,
  RetargetBody,
} from '../schemas/model.ts';
import { problems } from '../schemas/problem.ts';
import type { LoadOutcome, Model as ModelShape } from '../services.ts';
import { closeSignal } from '../signals.ts';
import type { App, Deps } from '../web.ts';

/** The model when ready; the error that it stands for otherwise. */
function readyOrThrow(model: ModelShape): ModelShape {
  if (model.state === 'failed' || model.state === 'cancelled')
    throw errorOfLoad(model.error ?? { code: 'MODEL_FAILED', detail: `The load of ${fullName(model)} failed.` });
  return model;
}

function loadRoute(app: App, { lifecycle, metrics }: Deps): void {
  app.post(
    '/models',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['models'],
        operationId: 'loadModel',
        summary: 'Load a model once; the same source joins a running load or finds the content',
        body: LoadBody,
        querystring: LoadQuery,
        response: {
          200: Model,
          201: Model,
          202: Model,
          ...problems(400, 401, 404, 409, 413, 415, 422, 500, 501, 503, 507),
        },
      },
    },
    async (request, reply) => {
      const { store } = lifecycle.services;
      let loaded: { outcome: LoadOutcome; model: ModelShape };
      try {
        loaded = await store.load(request.body);
      } catch (error) {
        metrics.countRequest('error');
        throw error;
      }
      const { outcome, model } = loaded;
      metrics.countRequest(outcome);
      reply.header('location', modelPath(model));
      if (outcome === 'hit') return reply.code(200).send(model);
      if (!request.query.wait) return reply.code(202).send(model);
      const settled = await store.settled(fullName(model), closeSignal(reply.raw, lifecycle.endSignal));
      return reply.code(201).send(readyOrThrow(settled));
    },
  );
}

function lookupRoutes(app: App, { lifecycle }: Deps): void {
  app.get(
    '/models',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['models'],
        operationId: 'listModels',
        summary: 'Models, without their files',
        querystring: ModelsQuery,
        response: { 200: listOf(Model), ...problems(400, 401, 500, 503) },
      },
    },
    async (request) => pageByKey(lifecycle.services.store.list(request.query.state), request.query, 100, fullName),
  );
  app.get(
    '/models/:name',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['models'],
        operationId: 'getModel',
        summary: 'One model with its files',
        params: ModelParams,
        response: { 200: Model, ...problems(400, 401, 404, 500, 503) },
      },
    },
    async (request, reply) => answer(reply, await lifecycle.services.store.get(request.params.name)),
  );
  app.get(
    '/models/by-digest/:digest',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['models'],
        operationId: 'getModelByDigest',
        summary: 'A model by the digest of its content',
        params: DigestParams,
        response: { 200: Model, ...problems(400, 401, 404, 500, 503) },
      },
    },
    async (request, reply) => answer(reply, await lifecycle.services.store.getByDigest(request.params.digest)),
  );
}

function changeRoutes(app: App, { lifecycle }: Deps): void {
  app.put(
    '/models/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['models'],
        operationId: 'retargetModel',
        summary: 'Point the name at another content at once; the old one drains',
        params: ModelParams,
        body: RetargetBody,
        response: { 200: Model, ...problems(400, 401, 404, 409, 413, 415, 500, 503, 507) },
      },
    },
    async (request, reply) =>
      answer(reply, await lifecycle.services.store.retarget(request.params.name, request.body.digest)),
  );
  app.delete(
    '/models/:name',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['models'],
        operationId: 'removeModel',
        summary: 'Free a model; 202 while its load is being cancelled or workers still use it',
        params: ModelParams,
        querystring: RemoveQuery,
        response: { 202: Model, 204: Type.Null({ description: 'freed' }), ...problems(400, 401, 404, 409, 500, 503) },
      },
    },
    async (request, reply) => {
      const drain = request.query.drain ?? false;
      const { outcome, model } = await lifecycle.services.store.remove(request.params.name, { drain });
      return outcome === 'freed' ? reply.code(204).send(null) : reply.code(202).send(model);
    },
  );
}

export function modelRoutes(app: App, deps: Deps): void {
  loadRoute(app, deps);
  lookupRoutes(app, deps);
  changeRoutes(app, deps);
}
