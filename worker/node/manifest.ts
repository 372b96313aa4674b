/** The manifest `.daxserve/manifest.json`: which bytes of which file are which tensor. */
import { dtypeBytes } from './dtype.ts';
import { workerError } from './errors.ts';
import { isObject, listField, type Refuse, textField, wholeField } from './fields.ts';

/** One tensor as the manifest states it: `length` bytes from `offset` of `file`, row-major. */
export interface TensorInfo {
  readonly name: string;
  /** As the model's format spells it: F32, BF16, F8_E4M3, Q4_K, ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

export interface Manifest {
  readonly format: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

const VERSION = 1;

const refuse: Refuse = (reason) => {
  throw workerError('WORKER_BAD_MANIFEST', `The model's manifest cannot be read: ${reason}.`);
};

/** @throws DaxserveError WORKER_BAD_MANIFEST */
export function parseManifest(json: string): Manifest {
  const raw = parseJson(json);
  if (!isObject(raw)) return refuse('it is not a JSON object');
  if (raw.version !== VERSION) {
    refuse(`its version is ${JSON.stringify(raw.version)}: use the daxserve package that fits the service`);
  }
  const tensors = listField(raw, 'tensors', refuse).map(parseTensor);
  return {
    format: typeof raw.format === 'string' ? raw.format : 'files',
    metadata: isObject(raw.metadata) ? raw.metadata : {},
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
  };
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    return refuse(error instanceof Error ? error.message : 'it is not JSON');
  }
}

function parseTensor(raw: unknown): TensorInfo {
  if (!isObject(raw)) return refuse('a tensor is not an object');
  const name = textField(raw, 'name', refuse);
  const shape = listField(raw, 'shape', refuse);
  if (!shape.every(isCount)) refuse(`the shape of tensor "${name}" is not a list of counts`);
  const tensor = {
    name,
    dtype: textField(raw, 'dtype', refuse),
    shape: shape as readonly number[],
    file: textField(raw, 'file', refuse),
    offset: wholeField(raw, 'offset', refuse),
    length: wholeField(raw, 'length', refuse),
  };
  const itemBytes = dtypeBytes(tensor.dtype);
  if (itemBytes && tensor.shape.reduce((product, n) => product * n, itemBytes) !== tensor.length) {
    refuse(`tensor "${name}" does not have the bytes that its shape needs`);
  }
  return tensor;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
