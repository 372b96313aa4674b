// A service in small: opens the region, leases a range to one worker, passes on what the worker says, waits to be killed.
//   node service.js PATH OFFSET LENGTH
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Region } from '../../dist/daxfs/region.js';

const [path, offset, length] = process.argv.slice(2);
const region = await Region.open({ path });
const fd = region.fence.openLease([{ offset: Number(offset), length: Number(length) }]);
spawn('python3', [fileURLToPath(new URL('./worker.py', import.meta.url)), offset, length], {
  stdio: ['ignore', 'inherit', 'inherit', fd],
});
setInterval(() => region.uuid, 1000);
