/** Model names: `name[:tag]`, where name is `model` or `org/model`; the tag defaults to `latest`. */
import { loaderError, shown } from './errors.ts';

export const NAME_PATTERN =
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(\/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?(:[A-Za-z0-9._-]{1,64})?$/;

/** NAME_PATTERN in words. */
export const NAME_RULE =
  'up to 64 letters, digits, ".", "_" or "-", first a letter or digit, once divided by "/", then ":tag" if wanted, such as org/model:v1';

export const TAG_DEFAULT = 'latest';

export interface ModelName {
  /** Without tag. */
  name: string;
  tag: string;
  /** `name:tag`, as the registry keeps it. */
  full: string;
}

/** @throws LoaderError MODEL_NAME */
export function parseModelName(text: string): ModelName {
  if (!NAME_PATTERN.test(text)) throw loaderError('MODEL_NAME', `${shown(text)} is no model name; use ${NAME_RULE}.`);
  const colon = text.indexOf(':');
  const name = colon < 0 ? text : text.slice(0, colon);
  const tag = colon < 0 ? TAG_DEFAULT : text.slice(colon + 1);
  return { name, tag, full: `${name}:${tag}` };
}

/** True for `name:tag` as parseModelName gives it: nothing else can be asked for. */
export const isFullName = (text: string): boolean => text.includes(':') && NAME_PATTERN.test(text);

/** One part of a name made from any text: other characters become `-`, at most 64, never empty. */
export function namePart(text: string): string {
  const plain = text
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 64)
    .replace(/-+$/, '');
  return plain === '' ? 'model' : plain;
}
