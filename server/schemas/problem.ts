/** Error bodies: RFC 9457 problem documents. */
import Type, { type Static } from 'typebox';
import { text } from './common.ts';

export const Problem = Type.Object(
  {
    type: text('/problems/<code>: explains the code'),
    title: text('what kind of failure it is'),
    status: Type.Integer({ description: 'the HTTP status' }),
    detail: text('what happened and what to do, one sentence'),
    code: text('stable name of the reason'),
    error: text('same as detail'),
    instance: Type.Optional(text('the request it answers')),
    offset: Type.Optional(Type.Integer({ description: 'byte offset in the input at which a rule broke' })),
    place: Type.Optional(text('which part of the request broke the schema, such as body/source')),
  },
  { additionalProperties: true, description: 'application/problem+json; further members depend on the code' },
);
export type Problem = Static<typeof Problem>;

const PROBLEM_TITLES = {
  400: 'the request breaks its schema',
  401: 'no bearer token, or an unknown one',
  403: 'token scope, Host, Origin or source root forbids it',
  404: 'not found',
  409: 'not in this state',
  410: 'expired',
  413: 'the body is too large',
  415: 'the body is not JSON',
  422: 'the bytes of the model break a rule of their format',
  500: 'the service failed',
  501: 'not possible here',
  503: 'starting, recovering or stopping; Retry-After says when to ask again',
  507: 'not enough room; free, largest free run and evictable bytes are in the body',
} as const;
export type ProblemStatus = keyof typeof PROBLEM_TITLES;

/** The problem responses of a call; any call may be refused for its Host or Origin header. */
export function problems<const S extends ProblemStatus>(...statuses: S[]) {
  const all = [403, ...statuses].sort((a, b) => a - b) as (S | 403)[];
  const entries = all.map((status) => [
    status,
    {
      description: PROBLEM_TITLES[status],
      content: { 'application/problem+json': { schema: Problem } },
    },
  ]);
  return Object.fromEntries(entries) as Record<S | 403, typeof Problem>;
}

export const ProblemInfo = Type.Object({
  code: text('the code'),
  kind: text('kind of failure'),
  status: Type.Integer({ description: 'HTTP status that goes with it' }),
  title: text('what it means'),
});
