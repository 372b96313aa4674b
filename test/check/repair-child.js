// Repairs a region and kills itself after so many steps; exits 0 when there were fewer.
//   node repair-child.js PATH STEPS
import { repairRegion } from '../../dist/daxfs/check/repair.js';
import { manifestReader } from '../../dist/server/cli/region-check.js';

const [path, steps] = process.argv.slice(2);
let left = Number(steps);
await repairRegion(
  { path },
  {
    manifest: manifestReader,
    dropQuarantined: true,
    onStep: () => {
      left -= 1;
      if (left === 0) process.kill(process.pid, 'SIGKILL');
    },
  },
);
