/** Checked reads from JSON that somebody else wrote. */

/** Says what is wrong; throws the caller's error. */
export type Refuse = (reason: string) => never;

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A whole number of bytes or elements, 0 to 2^53 - 1. */
export function wholeField(object: JsonObject, key: string, refuse: Refuse): number {
  const value = object[key];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    refuse(`${key} is ${JSON.stringify(value)}, not a whole number`);
  }
  return value;
}

export function textField(object: JsonObject, key: string, refuse: Refuse): string {
  const value = object[key];
  if (typeof value !== 'string') refuse(`${key} is ${JSON.stringify(value)}, not a text`);
  return value;
}

export function listField(object: JsonObject, key: string, refuse: Refuse): readonly unknown[] {
  const value = object[key];
  if (!Array.isArray(value)) refuse(`${key} is not a list`);
  return value;
}

export function objectField(object: JsonObject, key: string, refuse: Refuse): JsonObject {
  const value = object[key];
  if (!isObject(value)) refuse(`${key} is not an object`);
  return value;
}
