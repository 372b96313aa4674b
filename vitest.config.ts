import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Each file is a process of its own: tests map regions, take locks and kill children.
    pool: 'forks',
    maxWorkers: 2,
    // Against hangs only: a busy machine is no failure.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    expect: { poll: { timeout: 60_000, interval: 5 } },
  },
});
