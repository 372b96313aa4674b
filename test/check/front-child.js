// Changes files as fast as it can until it is killed; every operation may fail as file operations do.
//   node front-child.js PATH NAME SEED   works in d0..d3 beside others; prints one line per 200 operations
import { openRegion } from '../../dist/daxfs/index.js';

const [path, name, seed] = process.argv.slice(2);
const region = await openRegion(path, { write: true });
const { fs } = region;
let state = Number(seed) >>> 0;
const next = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const file = () => `d${next(4)}/${name}${next(6)}`;
const shared = () => `d${next(4)}/both${next(4)}`;
const fails = new Set([
  'ENOENT',
  'EEXIST',
  'ENOTEMPTY',
  'EISDIR',
  'ENOTDIR',
  'EBUSY',
  'EINVAL',
  'ENOSPC',
  'EAGAIN',
  'EPERM',
]);
const block = Buffer.alloc(12_000);
const operations = [
  () => fs.writeFileSync(file(), block.fill(next(256)).subarray(0, next(12_000))),
  () => fs.writeFileSync(shared(), block.subarray(0, next(9000))),
  () => fs.appendFileSync(shared(), block.subarray(0, next(3000))),
  () => fs.truncate(file(), next(9000)),
  () => fs.renameSync(file(), file()),
  () => fs.renameSync(shared(), file()),
  () => fs.renameSync(file(), shared()),
  () => fs.unlinkSync(file()),
  () => fs.unlinkSync(shared()),
  () => fs.mkdirSync(`d${next(4)}/dir${next(3)}`),
  () => fs.rmdirSync(`d${next(4)}/dir${next(3)}`),
  () => fs.renameSync(`d${next(4)}/dir${next(3)}`, `d${next(4)}/dir${next(3)}`),
  () => fs.symlinkSync('somewhere', file()),
  () => fs.chmodSync(file(), 0o600 + next(8)),
];
for (let i = 0; i < 4; i++) fs.mkdirSync(`d${i}`, { recursive: true });
for (let done = 1; ; done++) {
  try {
    await operations[next(operations.length)]();
  } catch (error) {
    if (!fails.has(error.code)) throw error;
  }
  if (done % 200 === 0) {
    process.stdout.write(`${done}\n`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
