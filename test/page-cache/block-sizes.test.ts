/**
 * Goal: images with the pages of other machines (16 and 64 KiB) work throughout: made, checked, read through the cache, written
 * over. Method: the real commands and `region.fs`. (Mounting one needs a kernel with such pages: not tried here.)
 */
import { describe, expect, it } from 'vitest';
import { inspect } from '../support/run-tool.ts';
import { cacheFacts, expectBytes, makeImage, open, pattern } from './image.ts';

const KiB = 1024;
const cases = ['split', 'export'].flatMap((mode) => [16, 64].map((kib) => ({ mode: mode as 'split' | 'export', kib })));

describe.each(cases)('$mode image, blocks of $kib KiB', ({ mode, kib }) => {
  const block = kib * KiB;
  const files = {
    small: pattern(1, 100),
    page: pattern(2, block),
    more: pattern(3, block + 1),
    'dir/large': pattern(4, 5 * block - 7),
  };
  const options = ['--block-size', `${kib}K`, '-C', '64'];

  it('is read through the cache', async () => {
    const { path, source } = await makeImage(mode, { files, options });
    expect(inspect('check', '-f', path)).toMatchObject({ status: 0 });
    const region = await open(path, { write: true, ...source });
    expect(region.info()).toMatchObject({ blockBytes: block });
    for (const [name, bytes] of Object.entries(files)) expectBytes(await region.fs.readFile(name), bytes);
    expect(cacheFacts(region)).toMatchObject({ fills: 9, sourceReads: 9, sourceBytes: 9 * block, fallbacks: 0 });
    for (const [name, bytes] of Object.entries(files)) expectBytes(region.fs.readFileSync(name), bytes);
    expect(cacheFacts(region)).toMatchObject({ fills: 9, hits: 9 });
    expect(inspect('check', '-f', path)).toMatchObject({ status: 0 });
  });

  it('is written over, page by page', async () => {
    const { path, source } = await makeImage(mode, { files, options });
    const region = await open(path, { write: true, ...source });
    const wanted = Buffer.concat([files['dir/large'], Buffer.from('tail')]);
    const handle = await region.fs.open('dir/large', 'r+');
    await handle.write('across the edge', 2 * block - 4);
    wanted.write('across the edge', 2 * block - 4);
    await handle.close();
    await region.fs.appendFile('dir/large', 'tail');
    await region.fs.truncate('more', 10);
    await region.fs.writeFile('fresh', pattern(9, 3 * block + 5));
    await region.close();
    const again = await open(path, source);
    expectBytes(await again.fs.readFile('dir/large'), wanted);
    expectBytes(await again.fs.readFile('more'), files.more.subarray(0, 10));
    expectBytes(await again.fs.readFile('fresh'), pattern(9, 3 * block + 5));
    expect(inspect('check', '-f', path)).toMatchObject({ status: 0 });
  });
});
