/**
 * Loaded into the service by `event-loop.ts`: says on SIGUSR2 how long its event loop was away at most since the last
 * time, in processor time of its thread. Unlike time on the clock it does not grow with what else the machine does.
 */
import { closeSync, openSync, readSync } from 'node:fs';

const stat = openSync('/proc/self/schedstat', 'r');
const text = Buffer.alloc(64);
const cpuMs = () => Number(text.toString('latin1', 0, readSync(stat, text, 0, text.length, 0)).split(' ')[0]) / 1e6;

let last = cpuMs();
let worst = 0;
setInterval(() => {
  const now = cpuMs();
  worst = Math.max(worst, now - last);
  last = now;
}, 1).unref();
process.on('exit', () => closeSync(stat));
process.on('SIGUSR2', () => {
  process.stderr.write(`away ${worst.toFixed(1)} ms\n`);
  worst = 0;
});
