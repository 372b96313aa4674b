// The first machine: makes the region on the device, holds it to its promises on one kernel, then shares it with the second.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { deleteRegion, Region } from '../../dist/daxfs/index.js';
import { native } from '../../dist/native/index.js';
import { matrices, writeSafetensors } from '../../dist/test/support/models.js';
import { attach } from '../../dist/worker/node/index.js';
import { command, device, digestsOf, hear, run, Service, sha256, step, talkPython, tell, until } from './vm-steps.js';

const MiB = 2 ** 20;
const folder = '/run/models/tiny';
const failure = (promise) =>
  promise.then(
    () => assert.fail('it did not fail'),
    (error) => error.code,
  );
const sysfs = (name) => Number(readFileSync(`/sys/bus/dax/devices/${basename(device)}/${name}`, 'utf8'));

/** The source as it is on disk, read here and not by the code under test. */
function sourceDigests() {
  const file = readFileSync(`${folder}/model.safetensors`);
  const data = 8 + Number(file.readBigUInt64LE());
  const entries = Object.entries(JSON.parse(file.toString('utf8', 8, data)));
  return Object.fromEntries(
    entries.map(
      ([
        name,
        {
          data_offsets: [from, to],
        },
      ]) => [name, sha256(file.subarray(data + from, data + to))],
    ),
  );
}

async function regionLife() {
  assert.equal(await failure(Region.open({ path: device })), 'DAXFS_UNFINISHED');
  const all = sysfs('size');
  assert.equal(await failure(Region.create({ path: device, size: all + 1 })), 'DAXFS_NO_SPACE');
  assert.equal(await failure(Region.create({ path: '/dev/dax9.0', size: 16 * MiB })), 'DAXFS_NO_REGION');
  assert.equal(existsSync('/dev/dax9.0'), false);
  const made = await Region.create({ path: device });
  const facts = made.info();
  assert.deepEqual([facts.backing, facts.path, facts.sizeBytes], ['devdax', device, all - (all % (2 * MiB))]);
  assert.deepEqual([facts.mapAlignment, facts.pageBytes], [sysfs('align'), sysfs('align')]);
  assert.throws(() => new native.Mapping(made.fd, 4096, 4096, {}), { code: 'EINVAL' });
  assert.equal(await failure(Region.create({ path: device })), 'DAXFS_ALREADY_CREATED');
  const second = await Region.open({ path: device });
  const reader = await Region.open({ path: device, write: false });
  assert.deepEqual([second.uuid, reader.uuid], [made.uuid, made.uuid]);
  assert.throws(() => reader.mapping.zero(0, 1), { code: 'EACCES' });
  made.close();
  reader.close();
  assert.equal(await failure(deleteRegion({ path: device })), 'DAXFS_IN_USE');
  second.close();
  await deleteRegion({ path: device });
  assert.equal(await failure(Region.open({ path: device })), 'DAXFS_UNFINISHED');
  // Smaller than the device, then all of it over the former.
  const small = await Region.create({ path: device, size: 32 * MiB });
  assert.equal(small.sizeBytes, 32 * MiB);
  small.close();
  const again = await Region.create({ path: device, force: true });
  assert.notEqual(again.uuid, made.uuid);
  again.close();
}

async function fence() {
  const region = await Region.open({ path: device });
  const [start, length] = [region.chunkOffset(2), 2 * region.chunkBytes];
  const other = { offset: region.chunkOffset(6), length: region.chunkBytes };
  region.mapping.write(start, Buffer.alloc(4096, 7));
  const worker = (range) => {
    const fd = region.fence.openLease([range]);
    const child = talkPython('fence/worker.py', [String(range.offset), String(range.length)], {
      stdio: ['ignore', 'pipe', 'inherit', fd],
    });
    closeSync(fd);
    return child;
  };
  const held = (offset, size) => region.fence.isHeld(offset, size);
  const workers = [worker({ offset: start, length }), worker(other)];
  for (const { next } of workers) assert.match(await next(), /^mapped/);
  assert.deepEqual([held(start, length), held(start, 1), held(start + length - 1, 1)], [true, true, true]);
  assert.equal(region.fence.tryWriteLock(start + length - 1, 1), null);
  assert.deepEqual([held(start - 1, 1), held(start + length, 1)], [false, false]);
  region.fence.tryWriteLock(region.chunkOffset(5), region.chunkBytes).release();
  // A forked child keeps the range when its parent has gone, every descriptor long closed.
  workers[0].child.kill('SIGUSR2');
  const heir = Number(/^mapped (\d+)$/.exec(await workers[0].next())[1]);
  await workers[0].kill();
  process.kill(heir, 'SIGUSR1');
  assert.equal(await workers[0].next(), `sum ${4096 * 7}`);
  assert.equal(region.fence.tryWriteLock(start, length), null);
  process.kill(heir, 'SIGKILL');
  await until(() => !held(start, length));
  region.fence.tryWriteLock(start, length).release();
  assert.equal(held(other.offset, other.length), true);
  // Not even the end of every description of ours frees it, and nothing but its own end does.
  region.close();
  assert.equal(await failure(deleteRegion({ path: device })), 'DAXFS_IN_USE');
  await workers[1].kill();
}

async function readOnly() {
  const region = await Region.open({ path: device });
  const { strength, reason } = region.info().readOnly;
  assert.equal(strength, 'advisory');
  assert.match(reason, /root.*device node/);
  const tries = async (...user) => {
    const fd = region.fence.openLease([{ offset: region.chunkOffset(0), length: region.chunkBytes }]);
    const { next, ended } = talkPython('fence/attacker.py', [String(2 * MiB), ...user], {
      stdio: ['ignore', 'pipe', 'inherit', fd],
    });
    closeSync(fd);
    const results = {};
    while (!('reopen-again' in results)) {
      const [name, outcome] = (await next()).split(' ');
      results[name] = outcome;
    }
    await ended;
    return results;
  };
  const stranger = await tries('65534');
  assert.equal(stranger.read, 'ok');
  for (const [name, outcome] of Object.entries(stranger)) if (name !== 'read') assert.notEqual(outcome, 'ok', name);
  const asRoot = await tries();
  assert.deepEqual([asRoot.read, asRoot['map-writable'], asRoot.write === 'ok'], ['ok', 'EACCES', false]);
  // What "advisory" says: the day the kernel refuses this, the strength may say "enforced".
  assert.equal(asRoot.reopen, 'ok');
  region.close();
}

const service = new Service();
let expected;
let node;
let inPython;
let digest;

async function serve() {
  await service.start('host0');
  const { body: region } = await service.call('GET', '/region');
  assert.deepEqual([region.backing, region.path, region.mapAlignment], ['devdax', device, 2 * MiB]);
  const { code, stdout, stderr } = await command('bin/daxserve.js', 'region', 'info', '--region', device);
  assert.equal(code, 0, stderr);
  for (const line of [/^backing +devdax$/m, /^map alignment +2 MiB$/m, /^pages +2 MiB$/m, /^read-only +advisory/m]) {
    assert.match(stdout.toString(), line);
  }
  mkdirSync(folder, { recursive: true });
  writeSafetensors(`${folder}/model.safetensors`, matrices(5, 3 * MiB));
  writeFileSync(`${folder}/config.json`, '{"hidden_size": 64}');
  expected = sourceDigests();
  ({ digest } = await service.load(folder, 'tiny'));
}

async function workersRead() {
  node = await attach('tiny', { socket: service.socket, timeoutMs: 100_000 });
  assert.deepEqual(digestsOf(node), expected);
  assert.equal(Buffer.from(node.file('config.json')).toString(), '{"hidden_size": 64}');
  inPython = talkPython('twohost/attach.py', [service.socket, 'tiny']);
  assert.deepEqual(JSON.parse(await inPython.next()), { attached: true, tensors: expected });
}

async function killAndRestart() {
  const reattached = new Promise((resolve) => node.once('reattached', resolve));
  await service.stop('SIGKILL');
  rmSync(folder, { recursive: true });
  assert.deepEqual(digestsOf(node), expected);
  await service.start('host0');
  const { status, body } = await service.call('GET', '/models/tiny');
  assert.deepEqual([status, body.state, body.digest], [200, 'ready', digest]);
  const fresh = await attach('tiny', { socket: service.socket, timeoutMs: 100_000 });
  assert.deepEqual(digestsOf(fresh), expected);
  await fresh.close();
  await reattached;
  assert.deepEqual(digestsOf(node), expected);
  assert.deepEqual(JSON.parse(await inPython.ask('sum')).tensors, expected);
  const checked = await command('bin/daxserve.js', 'region', 'check', '--region', device);
  assert.equal(checked.code, 0, checked.stdout + checked.stderr);
}

const freeBytes = async () => (await service.call('GET', '/region')).body.freeBytes;

/** The first machine has no worker left, so what keeps the bytes is the second one's bit. */
async function deleteWaitsForTheOther() {
  await node.close();
  await inPython.kill();
  await hear('attached');
  const { status, body } = await service.call('DELETE', '/models/tiny');
  assert.deepEqual([status, body.code], [409, 'MODEL_LEASED']);
  const used = await freeBytes();
  assert.equal((await service.call('DELETE', '/models/tiny?drain=true')).status, 202);
  tell('draining');
  await hear('restarted');
  assert.equal((await service.call('GET', '/models/tiny')).body.state, 'draining');
  assert.equal(await freeBytes(), used);
  tell('still-draining');
  await hear('released');
  await until(async () => (await service.call('GET', '/models/tiny')).status === 404);
  assert.ok((await freeBytes()) > used);
}

async function readsTheOthersModel() {
  const { tensors } = await hear('loaded-there');
  const model = await attach('there', { socket: service.socket, timeoutMs: 100_000 });
  assert.deepEqual(digestsOf(model), tensors);
  const names = (await service.call('GET', '/hosts')).body.items.map(({ name }) => name);
  assert.deepEqual(names.sort(), ['host0', 'second']);
  tell('read-there');
  await model.close();
}

const stateOf = async (host) =>
  (await service.call('GET', '/hosts')).body.items.find(({ name }) => name === host)?.state;
const fenceSecond = () => command('bin/daxserve.js', 'hosts', 'fence', 'second', '--yes', '--url', service.url);

/** Its heartbeat alone speaks: it lapses, and keeps what its workers hold until an operator says otherwise. */
async function judgesTheOther() {
  const alive = await fenceSecond();
  assert.equal(alive.code, 1);
  assert.match(alive.stderr, /is alive.*another kernel.*HOST_ALIVE/);
  tell('judging');
  await hear('paused');
  await until(async () => (await stateOf('second')) === 'lapsed');
  assert.equal((await service.call('DELETE', '/models/there')).body.code, 'MODEL_LEASED');
  const { code, stdout, stderr } = await fenceSecond();
  assert.equal(code, 0, stderr);
  assert.match(stdout.toString(), /fenced second: .* 1 pins/);
  assert.equal(await stateOf('second'), undefined);
  tell('fenced');
  await hear('came-back');
  assert.equal(await stateOf('second'), 'live');
  tell('seen');
}

async function theOtherLeaves() {
  const model = await attach('there', { socket: service.socket, timeoutMs: 100_000 });
  const tensors = digestsOf(model);
  await hear('left');
  const left = (await service.call('GET', '/hosts')).body.items.map(({ name }) => name);
  assert.deepEqual(left, ['host0']);
  assert.deepEqual(digestsOf(model), tensors);
  await model.close();
  assert.equal((await service.call('DELETE', '/models/there?drain=true')).status < 300, true);
  await until(async () => (await service.call('GET', '/models/there')).status === 404);
}

async function theEnd() {
  assert.equal(await service.stop('SIGTERM'), 0);
  const { code, stderr } = await command('bin/daxserve.js', 'region', 'delete', '--region', device, '--yes');
  assert.equal(code, 0, stderr);
  assert.equal(await failure(Region.open({ path: device })), 'DAXFS_UNFINISHED');
}

async function imageOnDevice() {
  mkdirSync('/run/source');
  const bytes = randomBytes(3 * MiB + 5);
  writeFileSync('/run/source/weights.bin', bytes);
  const made = await command('bin/mkdaxfs.js', '-d', '/run/source', '-D', device, '-V');
  assert.equal(made.code, 0, made.stderr);
  const read = await command('bin/daxfs-inspect.js', 'cat', '-f', device, 'weights.bin');
  assert.equal(read.code, 0, read.stderr);
  assert.equal(sha256(read.stdout), sha256(bytes));
  // No region is made over it unless that is said.
  assert.equal(await failure(Region.create({ path: device })), 'DAXFS_NOT_A_REGION');
}

await run(async () => {
  await step('the region is created, adopted, replaced and deleted', regionLife);
  await step('the fence holds a range while anybody maps it', fence);
  await step('read-only is advisory for root, and holds for others', readOnly);
  await step('the service starts and loads a model', serve);
  await step('both workers read the bytes of the source', workersRead);
  tell('loaded', { tensors: expected, digest });
  await hear('looked');
  await step('a killed service comes back with its models and without their source', killAndRestart);
  tell('back');
  await step('a deletion waits for the worker of the other kernel', deleteWaitsForTheOther);
  await step('what the other kernel loads is read here', readsTheOthersModel);
  await step('a silent host of the other kernel lapses, and is fenced by the command', judgesTheOther);
  await step('the other leaves', theOtherLeaves);
  await step('an orderly stop, and the region is deleted', theEnd);
  await step('an image of mkdaxfs lies on the device and is read back', imageOnDevice);
});
