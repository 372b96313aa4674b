/** GET /problems/{code}: what an error code means; the `type` of every problem document points here. */
import Type from 'typebox';
import { ALL_CODES, findCode } from '../codes.ts';
import { serverError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { statusOf } from '../problem.ts';
import { strict } from '../schemas/common.ts';
import { ProblemInfo, problems } from '../schemas/problem.ts';
import type { App } from '../web.ts';

const Params = strict({ code: Type.String({ maxLength: 64 }) });

export function problemRoutes(app: App): void {
  app.get(
    '/problems/:code',
    {
      config: { scope: 'open' },
      schema: {
        tags: ['service'],
        operationId: 'explainProblem',
        summary: 'What an error code means',
        params: Params,
        response: { 200: ProblemInfo, ...problems(400, 404) },
      },
    },
    async (request) => {
      const { code } = request.params;
      const entry = findCode(code);
      if (entry) return { code, kind: entry.kind, status: statusOf(code, entry.kind), title: entry.title };
      const close = nearest(code, Object.keys(ALL_CODES));
      throw serverError('SERVER_NO_ROUTE', `There is no error code ${code}; did you mean ${close}?`);
    },
  );
}
