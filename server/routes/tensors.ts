/** Where each tensor of a model is. */
import { answer } from '../paced-json.ts';
import { pageInOrder } from '../paging.ts';
import { ModelParams } from '../schemas/model.ts';
import { problems } from '../schemas/problem.ts';
import { TensorList, TensorsQuery } from '../schemas/tensor.ts';
import type { App, Deps } from '../web.ts';

export function tensorRoutes(app: App, { lifecycle }: Deps): void {
  app.get(
    '/models/:name/tensors',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['models'],
        operationId: 'listTensors',
        summary: 'Tensors with type, shape, file, offset and length',
        params: ModelParams,
        querystring: TensorsQuery,
        response: { 200: TensorList, ...problems(400, 401, 404, 409, 500, 503) },
      },
    },
    async (request, reply) => {
      const tensors = await lifecycle.services.store.tensors(request.params.name);
      return answer(
        reply,
        pageInOrder(tensors, request.query, 1000, (tensor) => tensor.name),
      );
    },
  );
}
