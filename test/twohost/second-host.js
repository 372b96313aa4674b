// The second machine: another kernel on the same memory. Looks, is refused what it must not have, then serves too.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { contentFiles, hostIdentity, Region, Registry, takeHostRow } from '../../dist/daxfs/index.js';
import { matrices, writeSafetensors } from '../../dist/test/support/models.js';
import { attach } from '../../dist/worker/node/index.js';
import { command, device, digestsOf, hear, run, Service, sha256, step, tell, until } from './vm-steps.js';

const failure = (promise) =>
  promise.then(
    () => assert.fail('it did not fail'),
    (error) => error,
  );
const service = new Service();
let loaded;
let model;

/** No lock of the first kernel is seen here: only what lies in the memory speaks. */
async function look() {
  const reader = await Region.open({ path: device, write: false });
  const region = await Region.open({ path: device });
  const registry = new Registry(region);
  const [host] = registry.hosts();
  assert.deepEqual([registry.hosts().length, host.name, host.state], [1, 'host0', 'live']);
  assert.notEqual(host.bootId, hostIdentity('second', region).bootId.toString('hex'));
  const [{ name, target }] = registry.names();
  const content = registry.content(target.index);
  assert.deepEqual(
    [name, content.state, content.corrupt, content.digest],
    ['tiny:latest', 'ready', undefined, loaded.digest],
  );
  const file = contentFiles(region, content).get('model.safetensors');
  for (const { mapping } of [region, reader]) {
    const bytes = mapping.read(file.offset, file.size);
    const data = 8 + Number(bytes.readBigUInt64LE());
    for (const [tensor, entry] of Object.entries(JSON.parse(bytes.toString('utf8', 8, data)))) {
      const [from, to] = entry.data_offsets;
      assert.equal(sha256(bytes.subarray(data + from, data + to)), loaded.tensors[tensor], tensor);
    }
  }
  reader.close();
  const busy = await failure(takeHostRow(region, hostIdentity('host0', region)));
  assert.equal(busy.code, 'DAXFS_HOST_BUSY');
  assert.match(busy.message, /another kernel/);
  region.close();
  const { code, stderr } = await command('bin/daxserve.js', 'region', 'delete', '--region', device, '--yes');
  assert.equal(code, 1);
  assert.match(stderr, /host "host0" on another kernel.*DAXFS_IN_USE/);
}

async function serve() {
  await service.start('second');
  const { body } = await service.call('GET', '/hosts');
  assert.deepEqual(body.items.map(({ name, self }) => [name, self]).sort(), [
    ['host0', false],
    ['second', true],
  ]);
  model = await attach('tiny', { socket: service.socket, timeoutMs: 100_000 });
  assert.deepEqual(digestsOf(model), loaded.tensors);
}

async function holdOn() {
  await hear('draining');
  assert.equal((await service.call('GET', '/models/tiny')).body.state, 'draining');
  const refused = await failure(attach('tiny', { socket: service.socket, timeoutMs: 100_000 }));
  assert.equal(refused.code, 'MODEL_NOT_READY');
  assert.deepEqual(digestsOf(model), loaded.tensors);
  // The bit outlives the service that set it: the successor finds it, and the lock of the worker with it.
  await service.stop('SIGKILL');
  await service.start('second');
  assert.equal((await service.call('GET', '/models/tiny')).body.state, 'draining');
  tell('restarted');
  await hear('still-draining');
  assert.deepEqual(digestsOf(model), loaded.tensors);
  await model.close();
  tell('released');
  await until(async () => (await service.call('GET', '/models/tiny')).status === 404);
}

async function loadHere() {
  mkdirSync('/run/models/there', { recursive: true });
  writeSafetensors('/run/models/there/model.safetensors', matrices(3, 2 ** 20), 99);
  await service.load('/run/models/there', 'there');
  const own = await attach('there', { socket: service.socket, timeoutMs: 100_000 });
  tell('loaded-there', { tensors: digestsOf(own) });
  await hear('read-there');
  model = own;
}

/** Paused for longer than the limit, and even fenced by an operator who thinks it gone. */
async function pausedAndBack() {
  await hear('judging');
  const reattached = new Promise((resolve) => model.once('reattached', resolve));
  service.process.child.kill('SIGSTOP');
  tell('paused');
  await hear('fenced');
  service.process.child.kill('SIGCONT');
  await reattached;
  const { body } = await service.call('GET', '/hosts');
  assert.deepEqual(body.items.map(({ name, state }) => [name, state]).sort(), [
    ['host0', 'live'],
    ['second', 'live'],
  ]);
  tell('came-back');
  await hear('seen');
  await model.close();
}

async function leave() {
  assert.equal(await service.stop('SIGTERM'), 0);
  tell('left');
}

await run(async () => {
  loaded = await hear('loaded');
  await step('another kernel reads the rows and bytes, and can neither be host0 nor delete', look);
  tell('looked');
  await step('a service of the other kernel serves the same model', serve);
  await hear('back');
  tell('attached');
  await step('its worker keeps the bytes, over a kill of its own service', holdOn);
  await step('it loads a model for both', loadHere);
  await step('paused and taken for dead, it comes back as a new host, and so does its worker', pausedAndBack);
  await step('it leaves', leave);
});
