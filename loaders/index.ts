/** Public names of the loaders. */
export { DTYPES, type DtypeName } from './dtype.ts';
export { FORMATS, type FormatName, formatIndex, formatName } from './formats.ts';
export type { TensorInfo } from './tensor.ts';
