// Creates a region and, when told, kills itself at a named point or adopts what is there.
//   node create-child.js PATH BYTES [reserved | MICROSECONDS | either]
import { Region } from '../../dist/daxfs/region.js';

const [path, bytes, point] = process.argv.slice(2);
const die = () => process.kill(process.pid, 'SIGKILL');
const options = { path, size: Number(bytes) };
if (point === 'reserved') options.onProgress = die;
process.stdout.write('start\n');
if (point === 'either') {
  const { region, created } = await Region.openOrCreate(options);
  process.stdout.write(`${JSON.stringify({ uuid: region.uuid, created })}\n`);
} else await Region.create(options);
