/** Options that may be given several times, each with one value. */

export function texts(text: string, before: string[] = []): string[] {
  return [...before, text];
}
