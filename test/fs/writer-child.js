// Another process that works in a region or an image.
//   node writer-child.js PATH race NAME COUNT   creates n0..n(COUNT-1) with wx; prints one line per name: "won N" or "lost N"
//   node writer-child.js PATH forever NAME      appends numbered records, makes and moves files until it is killed; prints what is done
//   node writer-child.js PATH duel NAME COUNT   moves the directory NAME (a or b) into the other one and back
//   node writer-child.js PATH swap - COUNT      puts another file, link and directory under the same names, again and again
//   node writer-child.js PATH replay FILE       runs [method, ...arguments] of the JSON lines in FILE
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openRegion } from '../../dist/daxfs/index.js';

const [path, task, argument, count] = process.argv.slice(2);
const region = await openRegion(path, { write: true });
const { fs } = region;
const say = (text) => process.stdout.write(`${text}\n`);

async function race() {
  await fs.mkdir('race', { recursive: true });
  for (let i = 0; i < Number(count); i += 1) {
    try {
      await fs.writeFile(`race/n${i}`, `${argument} ${i}`, { flag: 'wx' });
      say(`won ${i}`);
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      say(`lost ${i}`);
    }
  }
}

async function forever() {
  const home = `by-${argument}`;
  await fs.mkdir(home);
  const block = Buffer.alloc(9000);
  for (let i = 0; ; i += 1) {
    block.fill(i & 0xff);
    await fs.writeFile(`${home}/new`, block);
    fs.renameSync(`${home}/new`, `${home}/f${i % 50}`);
    await fs.appendFile('log', `${argument} ${i}\n`.padEnd(32));
    if (i % 7 === 6) await fs.rm(`${home}/f${(i - 3) % 50}`);
    say(`${i}`);
    // What was said has reached the reader's pipe before the next operation begins; the parent kills at any moment.
    // A kernel-mountable pool is never recycled and must last until the parent has seen enough: ever slower after a while.
    if (i % 20 === 0) await sleep(i < 1000 ? 0 : i / 20);
  }
}

// Moves a directory below the other one and back, as fast as it can.
function duel() {
  const other = argument === 'a' ? 'b' : 'a';
  let moved = 0;
  for (let i = 0; i < Number(count); i += 1) {
    for (const [from, to] of [
      [argument, `${other}/${argument}`],
      [`${other}/${argument}`, argument],
    ]) {
      try {
        fs.renameSync(from, to);
        moved += 1;
      } catch (error) {
        if (!['ENOENT', 'EINVAL', 'EBUSY', 'ENOTEMPTY'].includes(error.code)) throw error;
      }
    }
  }
  say(`${moved}`);
}

function swap() {
  for (let i = 0; i < Number(count); i += 1) {
    fs.writeFileSync('new', Buffer.alloc(9000, i & 0xff));
    fs.renameSync('new', 'file');
    fs.symlinkSync(`v${i % 2}`, 'new');
    fs.renameSync('new', 'link');
    fs.mkdirSync('new');
    fs.renameSync('new', 'dir');
  }
}

async function replay() {
  for (const line of readFileSync(argument, 'utf8').split('\n').filter(Boolean)) {
    const [method, ...args] = JSON.parse(line);
    await fs[method](...args);
  }
}

await { race, forever, duel, swap, replay }[task]();
await region.close();
say('end');
