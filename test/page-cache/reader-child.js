// Another process that reads an image.
//   node reader-child.js IMAGE SOURCE all          reads every file once; prints its digest per file and what the cache did
//   node reader-child.js IMAGE SOURCE forever SEED reads pages of random files until it is killed; prints the seed first
// SOURCE is {"backing": FILE} or {"export": DIRECTORY}.
import { createHash } from 'node:crypto';
import { openRegion } from '../../dist/daxfs/index.js';

const [path, source, task, seed] = process.argv.slice(2);
const region = await openRegion(path, { write: true, ...JSON.parse(source) });
const { fs } = region;
const say = (text) => process.stdout.write(`${text}\n`);
const names = fs.readdirSync('/', { recursive: true }).filter((name) => fs.lstatSync(name).isFile());

async function all() {
  const files = {};
  for (const name of names)
    files[name] = createHash('sha256')
      .update(await fs.readFile(name))
      .digest('hex');
  say(JSON.stringify({ files, pageCache: region.info().pageCache }));
}

/** Every 8 bytes hold the file's mark and their place: so one page tells whether it is the right one. */
function isRight(bytes, at, mark) {
  for (let i = 0; i + 8 <= bytes.length; i += 8) {
    if (bytes.readBigUInt64LE(i) !== (mark << 48n) + BigInt((at + i) / 8 + 1)) return false;
  }
  return true;
}

async function forever() {
  let random = Number(seed) | 1;
  const below = (n) => {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    return (random >>> 8) % n;
  };
  const marks = new Map(names.map((name) => [name, fs.readFileSync(name).readBigUInt64LE(0) >> 48n]));
  say('begun');
  for (let i = 0; ; i += 1) {
    const name = names[below(names.length)];
    const { size } = fs.statSync(name);
    const at = below(Math.ceil(size / 4096)) * 4096;
    const bytes = Buffer.alloc(Math.min(8192, size - at));
    const file = await fs.open(name);
    await file.read(bytes, 0, bytes.length, at);
    await file.close();
    if (!isRight(bytes, at, marks.get(name))) {
      say(`wrong bytes in ${name} at ${at}, seed ${seed}, round ${i}`);
      process.exit(1);
    }
    if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
}

await { all, forever }[task]();
await region.close();
