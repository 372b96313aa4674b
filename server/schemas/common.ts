/** Pieces that every schema uses. One TypeBox value is the runtime check, the static type and the API document. */
import Type, { type Static, type TSchema } from 'typebox';

/** True only when both types accept exactly the same values; guards that schemas equal server/services.ts. */
export type Same<A, B> = [A, keyof A] extends [B, keyof B] ? ([B, keyof B] extends [A, keyof A] ? true : false) : false;

/** Compiles only for `Same<...>` = true. */
export type Assert<T extends true> = T;

/** A string out of a fixed list. */
export const oneOf = <const T extends string[]>(values: readonly [...T], description: string) =>
  Type.Enum(values, { type: 'string', description });

/** The schema, or null; written as a list of types, which the serializer handles without a validator. */
export function nullable<T extends TSchema & { type: string }>(schema: T) {
  return Type.Unsafe<Static<T> | null>({ ...schema, type: [schema.type, 'null'] });
}

export const text = (description: string) => Type.String({ description });
export const integer = (description: string) => Type.Integer({ minimum: 0, description });
export const time = (description: string) => Type.String({ format: 'date-time', description });

/** Longest `name[:tag]` is 194 bytes; see docs/FORMAT.md. */
export const MODEL_NAME_PATTERN =
  '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?(:[A-Za-z0-9._-]{1,64})?$';
export const DIGEST_PATTERN = '^[0-9a-f]{64}$';

export const ModelName = Type.String({
  pattern: MODEL_NAME_PATTERN,
  maxLength: 194,
  description: 'name[:tag]; the tag defaults to latest; a / in a URL is written %2F',
});
export const Digest = Type.String({ pattern: DIGEST_PATTERN, description: 'digest of a content, 64 hex digits' });
export const TtlSeconds = Type.Integer({
  minimum: 1,
  maximum: 3600,
  description: 'seconds until an unattached lease ends; 60 when absent',
});

/** Query of a list. `after` is the `next` of the page before. */
export const pageQuery = (limitMax: number, limitDefault: number) => ({
  limit: Type.Optional(
    Type.Integer({ minimum: 1, maximum: limitMax, description: `items per page, ${limitDefault} when absent` }),
  ),
  after: Type.Optional(Type.String({ maxLength: 4096, description: '`next` of the page before' })),
});

/** `{items, next?}`. */
export const listOf = <T extends TSchema>(item: T) =>
  Type.Object({
    items: Type.Array(item),
    next: Type.Optional(Type.String({ description: 'give it as `after` for the next page; absent on the last' })),
  });

/** An object whose unknown keys are refused, so that a misspelt key is not ignored in silence. */
export const strict = <T extends Record<string, TSchema>>(properties: T) =>
  Type.Object(properties, { additionalProperties: false });
