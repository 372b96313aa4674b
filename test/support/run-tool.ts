/** Runs the tools in this process, as their launchers do. */
import { main as inspectMain } from '../../daxfs/inspect.ts';
import { main as mkdaxfsMain } from '../../daxfs/mkdaxfs.ts';

export interface ToolResult {
  status: number;
  out: string;
  err: string;
}

export async function mkdaxfs(...args: string[]): Promise<ToolResult> {
  const result = { status: 0, out: '', err: '' };
  result.status = await mkdaxfsMain(args, {
    out: (text) => {
      result.out += text;
    },
    err: (text) => {
      result.err += text;
    },
    isTerminal: false,
  });
  return result;
}

/** `bytes` is what `cat` writes. */
export function inspect(...args: string[]): ToolResult & { bytes: Buffer } {
  const result = { status: 0, out: '', err: '', bytes: Buffer.alloc(0) };
  const chunks: Buffer[] = [];
  result.status = inspectMain(args, {
    out: (text) => {
      result.out += text;
    },
    err: (text) => {
      result.err += text;
    },
    bytes: (bytes) => {
      chunks.push(Buffer.from(bytes));
    },
  });
  result.bytes = Buffer.concat(chunks);
  return result;
}
