// A host in small: takes a row of the region, says which, and waits to be killed.
//   node host-child.js PATH NAME
import { hostIdentity, Region, Registry, takeHostRow } from '../../dist/daxfs/index.js';

const [path, name] = process.argv.slice(2);
const region = await Region.open({ path });
const registry = new Registry(region);
const identity = hostIdentity(name);
try {
  const { index } = await takeHostRow(region, identity, (row) => registry.attach(row, identity));
  process.stdout.write(`${JSON.stringify({ index })}\n`);
  setInterval(() => registry.stillAttached(), 1000);
} catch (error) {
  process.stdout.write(`${JSON.stringify({ code: error.code, message: error.message })}\n`);
  process.exit(0);
}
