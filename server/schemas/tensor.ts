/** Tensors of a model: where each one is in its file. */
import Type, { type Static } from 'typebox';
import { DTYPES, type DtypeName } from '../../loaders/dtype.ts';
import type { TensorInfo } from '../../loaders/tensor.ts';
import { type Assert, integer, listOf, pageQuery, type Same, strict, text } from './common.ts';

const Dtype = Type.Unsafe<DtypeName>({
  type: 'string',
  enum: [...DTYPES.keys()],
  description: 'element type, such as BF16 or Q4_K',
});

export const Tensor = Type.Object({
  name: text('name of the tensor'),
  dtype: Dtype,
  shape: Type.Array(integer('elements along one axis'), { description: 'row-major' }),
  file: text('path of the file in the model'),
  offset: integer('bytes from the start of the file'),
  length: integer('bytes'),
});
export type TensorMatchesService = Assert<Same<Static<typeof Tensor>, TensorInfo>>;

export const TensorList = listOf(Tensor);
export const TensorsQuery = strict(pageQuery(10_000, 1000));
