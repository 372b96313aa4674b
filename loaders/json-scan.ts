/**
 * A strict scanner for JSON from untrusted files (RFC 8259). It differs from JSON.parse in what it refuses: a key that
 * appears twice, nesting beyond a bound, numbers beyond 48 bits where a size is asked for, invalid UTF-8 and lone
 * surrogates. It builds no tree: the reader of a format asks for what it expects. Errors carry the byte offset.
 */
import { isUtf8 } from 'node:buffer';
import type { Steps } from '../daxfs/pace.ts';
import { type LoaderCode, type LoaderError, loaderError, shown } from './errors.ts';
import { limit } from './limits.ts';

type JsonRule = 'SYNTAX' | 'UTF8' | 'DUPLICATE_KEY' | 'NUMBER' | 'STRING_TOO_LONG';

const spaceBytesMax = limit('jsonSpaceBytesMax');
const stepBytesMax = limit('stepBytesMax');
const integerMax = limit('sizeMax');
const keyBytesMaxDefault = limit('tensorNameBytesMax');

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
const MINUS = 0x2d;
const POINT = 0x2e;

const escapes = new Map([...'"\\/bfnrt'].map((char, i) => [char.charCodeAt(0), '"\\/\b\f\n\r\t'.charCodeAt(i)]));

const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
const isDigit = (byte: number | undefined): byte is number => byte !== undefined && byte >= 0x30 && byte <= 0x39;
const isExponent = (byte: number | undefined) => byte === 0x65 || byte === 0x45;
const isHighSurrogate = (unit: number) => unit >= 0xd800 && unit < 0xdc00;
const isLowSurrogate = (unit: number) => unit >= 0xdc00 && unit < 0xe000;

export class JsonScanner {
  readonly #bytes: Buffer;
  readonly #document: JsonDocument;
  readonly #file: string;
  /** File offset of byte 0 of the buffer. */
  readonly #base: number;
  #at = 0;
  /** Where the last step ended. */
  #stepAt = 0;
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

  /** True once per step of input. */
  #isStepDone(): boolean {
    if (this.#at - this.#stepAt < stepBytesMax) return false;
    this.#stepAt = this.#at;
    return true;
  }

  #unexpected(wanted: string): LoaderError {
    const byte = this.#bytes[this.#at];
    const found = byte === undefined ? 'the end' : shown(Buffer.of(byte));
    return this.#fail('SYNTAX', `the JSON has ${found} where ${wanted} must be; write the file again`);
  }

  /** The next byte that is no white space, without taking it; undefined at the end. */
  peek(): number | undefined {
    const stop = Math.min(this.#bytes.length, this.#at + spaceBytesMax);
    while (this.#at < stop && isSpace(this.#bytes[this.#at]!)) this.#at++;
    const byte = this.#bytes[this.#at];
    if (byte === undefined || !isSpace(byte)) return byte;
    throw this.#fail('SYNTAX', `the JSON has more than ${spaceBytesMax} bytes of white space in a row`);
  }

  #take(byte: number, wanted: string): void {
    if (this.peek() !== byte) throw this.#unexpected(wanted);
    this.#at++;
  }

  /** Steps over spaces (0x20) and gives the first other byte, without taking it; undefined at the end. */
  *padding(): Steps<number | undefined> {
    for (;;) {
      const stop = Math.min(this.#bytes.length, this.#at + stepBytesMax);
      while (this.#at < stop && this.#bytes[this.#at] === 0x20) this.#at++;
      if (this.#at < stop || stop === this.#bytes.length) return this.#bytes[this.#at];
      yield;
    }
  }

  /** Nothing but white space may follow. */
  end(): void {
    if (this.peek() !== undefined) throw this.#unexpected('the end');
  }

  /** Opens an object or array. @returns false when it is empty, and then steps behind it */
  #open(opening: number, closing: number, wanted: string): boolean {
    this.#take(opening, wanted);
    if (this.peek() !== closing) return true;
    this.#at++;
    return false;
  }

  /** After an item: true when another follows; steps behind the end otherwise. */
  #another(closing: number): boolean {
    const byte = this.peek();
    if (byte !== COMMA && byte !== closing) throw this.#unexpected('a comma or the end of the list');
    this.#at++;
    return byte === COMMA;
  }

  /** Reads a key that is not among those seen, and its colon. */
  #key(isSeen: (key: string) => boolean, bytesMax: number): string {
    this.peek();
    const at = this.#at;
    const key = this.text(bytesMax);
    if (isSeen(key)) throw this.#fail('DUPLICATE_KEY', `the key ${shown(key)} appears twice; write the file again`, at);
    this.#take(COLON, 'a colon');
    return key;
  }

  /** Reads a small object in one step; `onMember` reads each value and refuses keys that it does not know. */
  object(onMember: (key: string) => void): void {
    const seen: string[] = [];
    let more = this.#open(OPEN_BRACE, CLOSE_BRACE, 'an object');
    while (more) {
      const key = this.#key((text) => seen.includes(text), keyBytesMaxDefault);
      seen.push(key);
      onMember(key);
      more = this.#another(CLOSE_BRACE);
    }
  }

  /**
   * Reads an object of any size; `onMember` reads each value.
   * @param keyBytesMax bytes of the longest key
   */
  *members(onMember: (key: string, at: number) => Steps<void> | void, keyBytesMax = keyBytesMaxDefault): Steps<void> {
    const seen = new Set<string>();
    const isSeen = (key: string) => seen.has(key);
    let more = this.#open(OPEN_BRACE, CLOSE_BRACE, 'an object');
    while (more) {
      this.peek();
      const at = this.offset;
      const key = this.#key(isSeen, keyBytesMax);
      seen.add(key);
      const steps = onMember(key, at);
      if (steps) yield* steps;
      more = this.#another(CLOSE_BRACE);
      if (this.#isStepDone()) yield;
    }
  }

  /** Reads an array of any size; `onElement` reads each element. */
  *elements(onElement: () => Steps<void> | void): Steps<void> {
    let more = this.#open(OPEN_BRACKET, CLOSE_BRACKET, 'an array');
    while (more) {
      const steps = onElement();
      if (steps) yield* steps;
      more = this.#another(CLOSE_BRACKET);
      if (this.#isStepDone()) yield;
    }
  }

  /** Reads an array of at most `countMax` integers. */
  integers(countMax: number, tooMany: () => LoaderError): number[] {
    const out: number[] = [];
    let more = this.#open(OPEN_BRACKET, CLOSE_BRACKET, 'an array');
    while (more) {
      if (out.length === countMax) throw tooMany();
      out.push(this.integer());
      more = this.#another(CLOSE_BRACKET);
    }
    return out;
  }

  /** Reads an integer of 0..2^48-1 without sign, point or exponent. */
  integer(): number {
    const first = this.peek();
    const start = this.#at;
    if (!isDigit(first) && first !== MINUS) throw this.#unexpected('a number');
    let value = 0;
    let at = start;
    for (let byte: number | undefined = first; isDigit(byte) && value <= integerMax; byte = this.#bytes[++at]) {
      value = value * 10 + (byte - 0x30);
    }
    const next = this.#bytes[at];
    // The slow way also says what is wrong: a sign, a fraction, a leading zero, too many digits.
    const plain = value <= integerMax && (first !== 0x30 || at === start + 1) && next !== POINT && !isExponent(next);
    if (plain && first !== MINUS) this.#at = at;
    else this.#refuseNumber(start);
    return value;
  }

  #refuseNumber(start: number): never {
    this.#number();
    const text = this.#bytes.toString('latin1', start, this.#at);
    throw this.#fail('NUMBER', `${shown(text)} is no integer from 0 to 2^48 - 1; write the file again`, start);
  }

  /** Steps over a number of RFC 8259. */
  #number(): void {
    if (this.#bytes[this.#at] === MINUS) this.#at++;
    if (this.#bytes[this.#at] === 0x30) this.#at++;
    else this.#digits();
    if (isDigit(this.#bytes[this.#at])) throw this.#unexpected('no digit after a leading zero');
    if (this.#bytes[this.#at] === POINT) {
      this.#at++;
      this.#digits();
    }
    if (!isExponent(this.#bytes[this.#at])) return;
    this.#at++;
    const sign = this.#bytes[this.#at];
    if (sign === 0x2b || sign === MINUS) this.#at++;
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
    if (!isDigit(first) && first !== MINUS) throw this.#unexpected('a number');
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
    else if (isDigit(byte) || byte === MINUS) this.number();
    else this.literal();
  }

  /** Reads a string of at most `bytesMax` bytes as they stand in the file, in one step: for small bounds. */
  text(bytesMax: number): string {
    this.#take(QUOTE, 'a string');
    const start = this.#at;
    const end = this.#plainRun(start, start + bytesMax + 1);
    if (this.#bytes[end] !== QUOTE || end - start > bytesMax) {
      const steps = this.#escaped(start, bytesMax);
      for (;;) {
        const { done, value } = steps.next();
        if (done) return value;
      }
    }
    this.#at = end + 1;
    return this.#decode(this.#bytes, start, end, start);
  }

  /** Reads a string of at most `bytesMax` bytes as they stand in the file (escapes count as written). */
  *string(bytesMax: number): Steps<string> {
    this.#take(QUOTE, 'a string');
    return yield* this.#escaped(this.#at, bytesMax);
  }

  #tooLong(bytesMax: number, start: number): LoaderError {
    return this.#fail('STRING_TOO_LONG', `a string is longer than ${bytesMax} bytes; write the file again`, start);
  }

  /** End of the run without quote, backslash or control character that starts at `from` and ends before `stop`. */
  #plainRun(from: number, stop: number): number {
    const bytes = this.#bytes;
    const end = Math.min(bytes.length, stop);
    let at = from;
    while (at < end) {
      const byte = bytes[at]!;
      if (byte === QUOTE || byte === BACKSLASH || byte < 0x20) break;
      at++;
    }
    return at;
  }

  *#escaped(start: number, bytesMax: number): Steps<string> {
    let length = 0;
    let pieces = 0;
    this.#at = start;
    for (;;) {
      const end = this.#plainRun(this.#at, this.#at + stepBytesMax);
      if (end - start > bytesMax) throw this.#tooLong(bytesMax, start);
      this.#reserve(length + end - this.#at + 4);
      length += this.#bytes.copy(this.#scratch, length, this.#at, end);
      this.#at = end;
      const byte = this.#bytes[end];
      if (byte === QUOTE) break;
      if (byte === BACKSLASH) length = this.#escape(this.#scratch, length);
      else if (byte === undefined || byte < 0x20) throw this.#unexpected('the end of a string');
      if (++pieces % 1024 === 0 || byte >= 0x20) yield;
    }
    this.#at++;
    return this.#decode(this.#scratch, 0, length, start);
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

  /** @param at where the string starts in the JSON, for the error */
  #decode(bytes: Buffer, start: number, end: number, at: number): string {
    if (isUtf8(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end))) {
      return bytes.toString('utf8', start, end);
    }
    throw this.#fail('UTF8', 'a string is no valid UTF-8; write the file again', at);
  }
}
