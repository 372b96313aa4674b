/** Model formats. The position in the list is stored in `content_row.format`: append, never reorder. */
export const FORMATS = ['files', 'safetensors', 'gguf'] as const;

export type FormatName = (typeof FORMATS)[number];

/** The number of a format in the registry. */
export function formatIndex(name: FormatName): number {
  return FORMATS.indexOf(name);
}

/** The format of a number in the registry, or undefined for one that this build does not know. */
export function formatName(index: number): FormatName | undefined {
  return FORMATS[index];
}

/** The format that a file's name says, or undefined for a side file. */
export function formatOfPath(path: string): Exclude<FormatName, 'files'> | undefined {
  const lower = path.toLowerCase();
  if (lower.endsWith('.safetensors')) return 'safetensors';
  if (lower.endsWith('.gguf')) return 'gguf';
  return undefined;
}
