// A Node worker: attaches to a model and reads one tensor in place.
//   node docs/examples/worker.js MODEL TENSOR
import { attach } from 'daxserve/worker';

const [model = 'demo', name] = process.argv.slice(2);
const m = await attach(model, { wait: 30 });
const tensor = m.tensor(name ?? [...m.tensors.keys()][0]);
let sum = 0;
for (const byte of tensor.bytes) sum = (sum + byte) % 2 ** 32;
console.log(`node ${process.pid}: ${model} ${tensor.dtype}[${tensor.shape}] byte sum ${sum}`);
process.stdin.on('end', () => m.close()).resume();
