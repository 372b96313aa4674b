/** The manifest of a content, version 1, as a schema: the types are derived from it, docs/manifest.schema.json is it. */
import Type, { type Static } from 'typebox';
import { DTYPES, type DtypeName } from './dtype.ts';
import { FORMATS, type FormatName } from './formats.ts';
import { limit } from './limits.ts';

const closed = { additionalProperties: false };
const size = (description: string) => Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description });

export const MANIFEST_VERSION = 1;

const ManifestFileSchema = Type.Object(
  {
    path: Type.String({ minLength: 1, maxLength: limit('pathBytesMax'), description: 'segments divided by /' }),
    size: size('bytes'),
    digest: Type.String({ pattern: '^[0-9a-f]{32}$', description: 'XXH3-128, canonical (big-endian) hex' }),
  },
  closed,
);

const ManifestTensorSchema = Type.Object(
  {
    name: Type.String({
      minLength: 1,
      description: 'unique; tensors of files in subdirectories have their path before',
    }),
    dtype: Type.Unsafe<DtypeName>({ type: 'string', enum: [...DTYPES.keys()] }),
    shape: Type.Array(size('elements'), { maxItems: limit('dimensionsMax'), description: 'row-major' }),
    file: Type.String({ description: 'path of one of the files' }),
    offset: size('bytes from the start of the file'),
    length: size('bytes'),
  },
  closed,
);

const MetadataValueSchema = Type.Union([
  Type.String(),
  Type.Number(),
  Type.Boolean(),
  Type.Object({ type: Type.String(), length: size('elements of an array, bytes of a text') }, closed),
]);

export const ManifestSchema = Type.Object(
  {
    version: Type.Literal(MANIFEST_VERSION),
    format: Type.Unsafe<FormatName>({ type: 'string', enum: [...FORMATS] }),
    source: Type.String({ description: 'URL that the content was loaded from' }),
    revision: Type.Union([Type.String({ maxLength: limit('revisionBytesMax') }), Type.Null()], {
      description: "the source's own version word, a commit where there is one",
    }),
    files: Type.Array(ManifestFileSchema, { description: 'in the byte order of their paths' }),
    tensors: Type.Array(ManifestTensorSchema),
    metadata: Type.Record(Type.String(), MetadataValueSchema, {
      description: 'what the model files say of themselves; long values as {type, length}',
    }),
  },
  { ...closed, title: 'daxserve manifest', description: '.daxserve/manifest.json in the first image of a content' },
);

export type Manifest = Static<typeof ManifestSchema>;
export type ManifestFile = Static<typeof ManifestFileSchema>;

/** The published text of the schema. */
export function manifestSchemaText(): string {
  const schema = { $schema: 'https://json-schema.org/draft/2020-12/schema', ...ManifestSchema };
  return `${JSON.stringify(schema, null, 2)}\n`;
}
