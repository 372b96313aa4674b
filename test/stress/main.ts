/** npm run stress -- [--operations N] [--kills N] [--seed N] [--front private|kernel|both] */
import { parseArgs } from 'node:util';
import { runStress, type StressSummary } from './stress.ts';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '5000000' },
    kills: { type: 'string', default: '300' },
    seed: { type: 'string' },
    front: { type: 'string', default: 'both' },
  },
});
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e6));

function summary(front: string, seconds: number, sums: StressSummary): string {
  const { operations, kills, looks, regions, cutDone, cutUndone, busy, leftovers, counts } = sums;
  const per = Object.entries(counts)
    .filter(([key]) => !['operations', 'starts', 'cutDone', 'cutUndone', 'busy', 'noSpace', 'full'].includes(key))
    .map(([key, value]) => `${key} ${value}`);
  return [
    `${front} front, seed ${seed}: sound. ${operations} operations, ${kills} kills, ${looks} looks, ${regions} regions, ${seconds.toFixed(0)} s;`,
    `  cut short by a kill: ${cutDone} done, ${cutUndone} not; gave way ${busy} times; no space ${counts.noSpace ?? 0}`,
    `  right after kills: ${JSON.stringify(leftovers)}`,
    `  ${per.join(', ')}`,
  ].join('\n');
}

// What lies in memory goes with us; the workers die with their parent.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

for (const front of values.front === 'both' ? ['private', 'kernel'] : [values.front]) {
  const started = performance.now();
  try {
    const sums = await runStress({
      seed,
      kernelMountable: front === 'kernel',
      operations: Number(values.operations),
      kills: Number(values.kills),
      onProgress: (line) => console.log(`${((performance.now() - started) / 1000).toFixed(0)} s: ${line}`),
    });
    console.log(summary(front, (performance.now() - started) / 1000, sums));
  } catch (error) {
    console.log(
      `${front} front: ${(error as Error).message}\n--seed ${seed} --front ${front} draws the same operations again`,
    );
    process.exitCode = 1;
  }
}
