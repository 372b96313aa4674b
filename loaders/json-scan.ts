/**
 * A strict scanner for JSON from untrusted files (RFC 8259). It differs from JSON.parse in what it refuses: a key that
 * appears twice, nesting beyond a bound, numbers beyond 48 bits where a size is asked for, invalid UTF-8 and lone
 * surrogates. It builds no tree: the reader of a format asks for what it expects. Errors carry the byte offset.
 */
import { isUtf8 } from 'node:buffer';
import { type LoaderCode, type LoaderError, loaderError, shown } from './errors.ts';
import { limit } from './limits.ts';
import type { Steps } from './pace.ts';

type JsonRule = 'SYNTAX' | 'UTF8' | 'DUPLICATE_KEY' | 'NUMBER' | 'STRING_TOO_LONG';

/** The kinds of documents; each has a code per rule. */
export type JsonDocument = 'SAFETENSORS' | 'SHARD_INDEX' | 'MANIFEST';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;

const escapes = new Map([...'"\\/bfnrt'].map((char, i) => [char.charCodeAt(0), '"\\/\b\f\n\r\t'.charCodeAt(i)]));

const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
const isDigit = (byte: number | undefined): byte is number => byte !== undefined && byte >= 0x30 && byte <= 0x39;
const isHighSurrogate = (unit: number) => unit >= 0xd800 && unit < 0xdc00;
const isLowSurrogate = (unit: number) => unit >= 0xdc00 && unit < 0xe000;

export class JsonScanner {
  readonly #bytes: Buffer;
  readonly #document: JsonDocument;
  readonly #file: string;
  /** File offset of byte 0 of the buffer. */
  readonly #base: number;
  #at = 0;
  #scratch: Buffer = Buffer.allocUnsafe(4096);

  /** @param file its name for messages; @param base offset of the JSON in the file, in bytes */
  constructor(bytes: Buffer, document: JsonDocument, file: string, base = 0) {
    this.#bytes = bytes;
    this.#document = document;
    this.#file = file;
    this.#base = base;
  }

  /** Offset in the file of the next byte. */
  get offset(): number {
    return this.#base + this.#at;
  }

  /** Makes an error of the document's own rules that names the file and the place. */
  error(code: LoaderCode, what: string, offset: number = this.offset): LoaderError {
    return loaderError(code, `${shown(this.#file)}: ${what} (byte ${offset}).`, { offset });
  }

  #fail(rule: JsonRule, what: string, at = this.#at): LoaderError {
    return this.error(`${this.#document}_JSON_${rule}`, what, this.#base + at);
  }

  #unexpected(wanted: string): LoaderError {
    const byte = this.#bytes[this.#at];
    const found = byte === undefined ? 'the end' : shown(Buffer.of(byte));
    return this.#fail('SYNTAX', `the JSON has ${found} where ${wanted} must be; write the file again`);
  }

  /** The next byte that is no white space, without taking it; undefined at the end. */
  peek(): number | undefined {
    const stop = Math.min(this.#bytes.length, this.#at + limit('jsonSpaceBytesMax'));
    while (this.#at < stop && isSpace(this.#bytes[this.#at]!)) this.#at++;
    const byte = this.#bytes[this.#at];
    if (byte === undefined || !isSpace(byte)) return byte;
    throw this.#fail('SYNTAX', `the JSON has more than ${limit('jsonSpaceBytesMax')} bytes of white space in a row`);
  }

  #take(byte: number, wanted: string): void {
    if (this.peek() !== byte) throw this.#unexpected(wanted);
    this.#at++;
  }

  /** Steps over spaces (0x20) and gives the first other byte, without taking it; undefined at the end. */
  *padding(): Steps<number | undefined> {
    for (;;) {
      const stop = Math.min(this.#bytes.length, this.#at + limit('stepBytesMax'));
      while (this.#at < stop && this.#bytes[this.#at] === 0x20) this.#at++;
      if (this.#at < stop || stop === this.#bytes.length) return this.#bytes[this.#at];
      yield;
    }
  }

  /** Nothing but white space may follow. */
  end(): void {
    if (this.peek() !== undefined) throw this.#unexpected('the end');
  }

  /**
   * Reads an object; `onMember` reads each value. The key is unescaped.
   * @param keyBytesMax bytes of the longest key
   */
  *members(onMember: (key: string, offset: number) => Steps<void>, keyBytesMax = limit('tensorNameBytesMax')) {
    this.#take(OPEN_BRACE, 'an object');
    const seen = new Set<string>();
    let more = this.peek() !== CLOSE_BRACE;
    while (more) {
      this.peek();
      const offset = this.offset;
      const key: string = yield* this.string(keyBytesMax);
      if (seen.has(key)) {
        throw this.#fail(
          'DUPLICATE_KEY',
          `the key ${shown(key)} appears twice; write the file again`,
          offset - this.#base,
        );
      }
      seen.add(key);
      this.#take(COLON, 'a colon');
      yield* onMember(key, offset);
      more = this.peek() === COMMA;
      if (more) this.#at++;
      yield;
    }
    this.#take(CLOSE_BRACE, 'a comma or the end of the object');
  }

  /** Reads an array; `onElement` reads each element. */
  *elements(onElement: (index: number) => Steps<void> | void): Steps<void> {
    this.#take(OPEN_BRACKET, 'an array');
    let more = this.peek() !== CLOSE_BRACKET;
    for (let index = 0; more; index++) {
      const steps = onElement(index);
      if (steps) yield* steps;
      more = this.peek() === COMMA;
      if (more) this.#at++;
      yield;
    }
    this.#take(CLOSE_BRACKET, 'a comma or the end of the array');
  }

  /** Reads an array of at most `countMax` integers. */
  *integers(countMax: number, tooMany: () => LoaderError): Steps<number[]> {
    const out: number[] = [];
    yield* this.elements(() => {
      if (out.length === countMax) throw tooMany();
      out.push(this.integer());
    });
    return out;
  }

  /** Reads an integer of 0..2^48-1 without sign, point or exponent. */
  integer(): number {
    const first = this.peek();
    const start = this.#at;
    if (!isDigit(first) && first !== 0x2d) throw this.#unexpected('a number');
    this.#number();
    const text = this.#bytes.toString('latin1', start, this.#at);
    const value = /^\d{1,15}$/.test(text) ? Number(text) : -1;
    if (value >= 0 && value <= limit('sizeMax')) return value;
    throw this.#fail('NUMBER', `${shown(text)} is no integer from 0 to 2^48 - 1; write the file again`, start);
  }

  /** Steps over a number of RFC 8259. */
  #number(): void {
    if (this.#bytes[this.#at] === 0x2d) this.#at++;
    if (this.#bytes[this.#at] === 0x30) this.#at++;
    else this.#digits();
    if (isDigit(this.#bytes[this.#at])) throw this.#unexpected('no digit after a leading zero');
    if (this.#bytes[this.#at] === 0x2e) {
      this.#at++;
      this.#digits();
    }
    const exponent = this.#bytes[this.#at];
    if (exponent !== 0x65 && exponent !== 0x45) return;
    this.#at++;
    const sign = this.#bytes[this.#at];
    if (sign === 0x2b || sign === 0x2d) this.#at++;
    this.#digits();
  }

  #digits(): void {
    const start = this.#at;
    while (isDigit(this.#bytes[this.#at])) {
      this.#at++;
      if (this.#at - start > 400) throw this.#fail('NUMBER', 'a number has more than 400 digits; write the file again');
    }
    if (this.#at === start) throw this.#unexpected('a digit');
  }

  /** Reads a finite number as a double. */
  number(): number {
    const first = this.peek();
    if (!isDigit(first) && first !== 0x2d) throw this.#unexpected('a number');
    const start = this.#at;
    this.#number();
    const value = Number(this.#bytes.toString('latin1', start, this.#at));
    if (Number.isFinite(value)) return value;
    throw this.#fail('NUMBER', 'a number is larger than a double holds; write the file again', start);
  }

  /** Reads `true`, `false` or `null`. */
  literal(): boolean | null {
    this.peek();
    for (const [text, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (this.#bytes.toString('latin1', this.#at, this.#at + text.length) !== text) continue;
      this.#at += text.length;
      return value;
    }
    throw this.#unexpected('a value');
  }

  /**
   * Steps over any value, checking it. Only here can nesting go on and on: elsewhere the format says what comes.
   * Only a shard index has members that nobody knows, so the code is its.
   */
  *skip(depth = 1): Steps<void> {
    if (depth > limit('jsonDepthMax')) {
      const what = `the JSON is nested more than ${limit('jsonDepthMax')} levels; write the file again`;
      throw this.error('SHARD_INDEX_JSON_TOO_DEEP', what);
    }
    const inner = () => this.skip(depth + 1);
    const byte = this.peek();
    if (byte === OPEN_BRACE) yield* this.members(inner);
    else if (byte === OPEN_BRACKET) yield* this.elements(inner);
    else if (byte === QUOTE) yield* this.string(limit('metadataValueBytesMax'));
    else if (isDigit(byte) || byte === 0x2d) this.number();
    else this.literal();
  }

  /** Reads a string of at most `bytesMax` bytes as they stand in the file (escapes count as written). */
  *string(bytesMax: number): Steps<string> {
    this.#take(QUOTE, 'a string');
    const start = this.#at;
    const plainEnd = this.#plainRun(start);
    if (plainEnd - start > bytesMax) throw this.#tooLong(bytesMax, start);
    if (this.#bytes[plainEnd] === QUOTE) {
      this.#at = plainEnd + 1;
      return this.#decode(this.#bytes.subarray(start, plainEnd), start);
    }
    return yield* this.#longString(start, bytesMax);
  }

  #tooLong(bytesMax: number, start: number): LoaderError {
    return this.#fail('STRING_TOO_LONG', `a string is longer than ${bytesMax} bytes; write the file again`, start);
  }

  /** End of the run without quote, backslash or control character that starts at `from`, at most one step long. */
  #plainRun(from: number): number {
    const end = Math.min(this.#bytes.length, from + limit('stepBytesMax'));
    let at = from;
    while (at < end) {
      const byte = this.#bytes[at]!;
      if (byte === QUOTE || byte === BACKSLASH || byte < 0x20) break;
      at++;
    }
    return at;
  }

  *#longString(start: number, bytesMax: number): Steps<string> {
    let length = 0;
    let steps = 0;
    this.#at = start;
    for (;;) {
      const end = this.#plainRun(this.#at);
      if (end - start > bytesMax) throw this.#tooLong(bytesMax, start);
      this.#reserve(length + end - this.#at + 4);
      const out = this.#scratch;
      length += this.#bytes.copy(out, length, this.#at, end);
      this.#at = end;
      const byte = this.#bytes[end];
      if (byte === QUOTE) break;
      if (byte === BACKSLASH) length = this.#escape(out, length);
      else if (byte === undefined || byte < 0x20) throw this.#unexpected('the end of a string');
      if (++steps % 1024 === 0 || byte >= 0x20) yield;
    }
    this.#at++;
    return this.#decode(this.#scratch.subarray(0, length), start);
  }

  /** Room for `bytes` in the buffer that escaped strings are unescaped into. */
  #reserve(bytes: number): void {
    if (bytes <= this.#scratch.length) return;
    const grown = Buffer.allocUnsafe(Math.max(bytes, 2 * this.#scratch.length));
    this.#scratch.copy(grown);
    this.#scratch = grown;
  }

  /** Appends one escape as UTF-8; it is never longer than what it stands for in the file. */
  #escape(out: Buffer, length: number): number {
    const at = this.#at;
    const byte = this.#bytes[at + 1];
    if (byte === 0x75) return length + out.write(this.#unicodeEscape(), length, 'utf8');
    const plain = byte === undefined ? undefined : escapes.get(byte);
    if (plain === undefined) throw this.#fail('SYNTAX', 'a string has an unknown escape; write the file again', at);
    out[length] = plain;
    this.#at += 2;
    return length + 1;
  }

  #unicodeEscape(): string {
    const at = this.#at;
    const high = this.#hexUnit();
    if (!isHighSurrogate(high) && !isLowSurrogate(high)) return String.fromCharCode(high);
    const paired = isHighSurrogate(high) && this.#bytes.toString('latin1', this.#at, this.#at + 2) === '\\u';
    const low = paired ? this.#hexUnit() : 0;
    if (isLowSurrogate(low)) return String.fromCharCode(high, low);
    throw this.#fail('UTF8', 'a string has half a surrogate pair; write the file again', at);
  }

  /** Reads `\uXXXX`. */
  #hexUnit(): number {
    const text = this.#bytes.toString('latin1', this.#at + 2, this.#at + 6);
    if (!/^[0-9a-fA-F]{4}$/.test(text)) {
      throw this.#fail('SYNTAX', 'a \\u escape has no four hex digits; write the file again');
    }
    this.#at += 6;
    return Number.parseInt(text, 16);
  }

  #decode(bytes: Buffer, at: number): string {
    if (isUtf8(bytes)) return bytes.toString('utf8');
    throw this.#fail('UTF8', 'a string is no valid UTF-8; write the file again', at);
  }
}
