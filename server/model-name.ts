/** `name[:tag]` as the API shows it. */

/** The full name, tag included. */
export function fullName({ name, tag }: { name: string; tag: string }): string {
  return `${name}:${tag}`;
}

/** The name as people write it: without the tag when it is `latest`. */
export function shortName({ name, tag }: { name: string; tag: string }): string {
  return tag === 'latest' ? name : `${name}:${tag}`;
}

export function modelPath(model: { name: string; tag: string }): string {
  return `/models/${encodeURIComponent(shortName(model))}`;
}
