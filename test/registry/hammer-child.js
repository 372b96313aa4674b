// A host that loads, reads, moves and deletes contents of one region as fast as it can, until it is killed.
//   node hammer-child.js PATH NAME SEED
// Prints {"done":N} after every 25 operations, {"violation":...} and exits 1 when it sees what must not be.
import { hostIdentity, Region, Registry, takeHostRow } from '../../dist/daxfs/index.js';

const [path, name, seedText] = process.argv.slice(2);
const KEYS = 10;
const NAMES = 6;
let random = Number(seedText) | 1;
const below = (n) => {
  random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
  return (random >>> 8) % n;
};

const region = await Region.open({ path });
const registry = new Registry(region);
const identity = hostIdentity(name);
await takeHostRow(region, identity, (row) => registry.attach(row, identity));
// Pins that a predecessor left: nobody maps bytes here, so they go.
for (const content of registry.contents()) if (content.mask & registry.hostBit) registry.unpin(content);

function violation(what, details) {
  process.stdout.write(`${JSON.stringify({ violation: what, name, ...details })}\n`, () => process.exit(1));
  throw new Error(what);
}

const keyOf = (n) => {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(n);
  return key;
};
const stampOf = (key, ref) => Buffer.from(`key ${key} row ${ref.index}@${ref.generation} `.padEnd(40));

function checkStamps(first, count, stamp, when) {
  for (let chunk = first; chunk < first + count; chunk += 1) {
    const found = region.mapping.read(region.chunkOffset(chunk), stamp.length);
    if (!found.equals(stamp))
      violation(`${when}: chunk ${chunk} has other bytes`, { found: found.toString(), stamp: stamp.toString() });
  }
}

function load(n) {
  const claim = registry.claim(keyOf(n));
  if (claim.outcome !== 'claimed') return;
  const count = 1 + below(3);
  const first = registry.allocateRun(count, claim);
  if (first < 0) return registry.abandon(claim);
  const stamp = stampOf(n, claim);
  for (let chunk = first; chunk < first + count; chunk += 1) region.mapping.write(region.chunkOffset(chunk), stamp);
  if (below(4) === 0) registry.allocateRun(1, claim);
  checkStamps(first, count, stamp, 'while loading');
  if (below(8) === 0) return registry.abandon(claim);
  const now = Date.now();
  const published = registry.publish(claim, {
    digest: n.toString(16).padStart(64, '0'),
    bytes: count * 100,
    createdAtMs: now,
    readyAtMs: now,
    fileCount: 1,
    tensorCount: 0,
    images: [{ firstChunk: first, chunkCount: count, bytes: 4096 }],
    keep: false,
    placement: 'resident',
    format: 0,
    revision: null,
  });
  if (!published) violation('a claim of a live host was lost', { ref: claim });
  registry.setName(`m${below(NAMES)}:t`, claim);
}

function read(full) {
  const ref = registry.findName(full);
  if (ref === null || !registry.pin(ref)) return;
  const content = registry.content(ref.index);
  if (content?.generation !== ref.generation || content.corrupt || content.digest === null) {
    violation('a pinned content is not whole', { content });
  }
  const stamp = stampOf(Number.parseInt(content.digest, 16), ref);
  for (const { firstChunk, chunkCount } of content.images) checkStamps(firstChunk, chunkCount, stamp, 'while pinned');
  registry.unpin(ref);
}

function remove(full) {
  const ref = registry.findName(full);
  if (ref === null) return;
  registry.setName(full, null, ref);
  registry.drain(ref);
  registry.free(ref);
}

function sweepDrained() {
  for (const content of registry.contents()) if (content.state === 'draining') registry.free(content);
}

for (let done = 1; ; done += 1) {
  const choice = below(10);
  if (choice < 4) load(below(KEYS));
  else if (choice < 7) read(`m${below(NAMES)}:t`);
  else if (choice < 9) remove(`m${below(NAMES)}:t`);
  else sweepDrained();
  if (done % 25 === 0) process.stdout.write(`${JSON.stringify({ done })}\n`);
  if (done % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
}
