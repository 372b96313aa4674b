// Creates a region and, when told, kills itself at a named point or adopts what is there.
//   node create-child.js PATH BYTES [reserved | either | meet ROUNDS]
import { Region } from '../../dist/daxfs/region.js';

const [path, bytes, point, rounds] = process.argv.slice(2);
const die = () => process.kill(process.pid, 'SIGKILL');
const options = { path, size: Number(bytes) };
if (point === 'reserved') options.onProgress = die;
process.stdout.write('start\n');
if (point === 'either') {
  const { region, created } = await Region.openOrCreate(options);
  process.stdout.write(`${JSON.stringify({ uuid: region.uuid, created })}\n`);
} else if (point === 'meet') await meet();
else await Region.create(options);

// Every 100 ms one more region, at the same moment as everybody else; the first at the Unix time in ms that comes in.
async function meet() {
  const start = (await process.stdin.toArray()).join('');
  for (let round = 0; round < Number(rounds); round += 1) {
    const at = Number(start) + round * 100;
    while (Date.now() < at - 10) await new Promise((resolve) => setTimeout(resolve, 5));
    while (Date.now() < at);
    const { region, created } = await Region.openOrCreate({ ...options, path: `${path}-${round}` });
    process.stdout.write(`${JSON.stringify({ uuid: region.uuid, created })}\n`);
  }
}
