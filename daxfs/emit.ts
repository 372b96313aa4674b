/** Writes what is generated from layout.ts: `native/include/layout.gen.h` and the byte tables of docs/FORMAT.md. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { CONSTANTS, LOCATOR_MAGIC, REGISTRY_MAGIC, STATES, STRUCTS, WORDS } from './layout.ts';
import { type FieldSpec, fieldSize, type StructSpec, type WordSpec } from './layout-spec.ts';

const pascal = (name: string) => name.replace(/(^|_)([a-z0-9])/g, (_, __, c: string) => c.toUpperCase());
const constantName = (name: string) => `k${name[0]?.toUpperCase()}${name.slice(1)}`;
const hex = (value: bigint | number) => `0x${value.toString(16)}`;

/** 64-bit fingerprint of every structure, word, state and constant: builds with another layout refuse the region. */
export function layoutFingerprint(): bigint {
  const shape = (spec: StructSpec): unknown => [
    spec.name,
    spec.size,
    spec.fields.map((f) => [
      f.name,
      typeof f.type === 'object' && 'array' in f.type ? [shape(f.type.array), f.type.count] : f.type,
    ]),
  ];
  const words = WORDS.map((w) => [w.name, w.bits.map((b) => [b.name, b.shift, b.width])]);
  const constants = Object.entries(CONSTANTS).map(([name, c]) => [name, c.value]);
  const text = JSON.stringify([STRUCTS.map(shape), words, constants, STATES]);
  return createHash('sha256').update(text).digest().readBigUInt64LE(0);
}

function cppField(field: FieldSpec): string {
  const { name, type, doc } = field;
  if (typeof type === 'string') return `  uint${type.slice(1)}_t ${name};  // ${doc}`;
  if ('bytes' in type) return `  uint8_t ${name}[${type.bytes}];  // ${doc}`;
  return `  ${pascal(type.array.name)} ${name}[${type.count}];  // ${doc}`;
}

function* fieldOffsets(spec: StructSpec): Generator<[FieldSpec, number]> {
  let offset = 0;
  for (const field of spec.fields) {
    yield [field, offset];
    offset += fieldSize(field.type);
  }
}

function cppStruct(spec: StructSpec): string {
  const type = pascal(spec.name);
  const asserts = [...fieldOffsets(spec)].map(
    ([field, offset]) => `static_assert(offsetof(${type}, ${field.name}) == ${offset});`,
  );
  return [
    `/// ${spec.doc}`,
    `struct ${type} {`,
    ...spec.fields.map(cppField),
    '};',
    `static_assert(sizeof(${type}) == ${spec.size});`,
    ...asserts,
    '',
  ].join('\n');
}

function cppWord(spec: WordSpec): string {
  const bits = spec.bits.map(
    (b) => `inline constexpr Bits ${constantName(pascal(b.name))}{${b.shift}, ${b.width}};  // ${b.doc}`,
  );
  return [`/// ${spec.doc}`, `namespace ${spec.name} {`, ...bits, `}  // namespace ${spec.name}`, ''].join('\n');
}

function cppStates([name, states]: [string, Record<string, number>]): string {
  const members = Object.entries(states).map(
    ([state, value]) => `  k${pascal(state.toLowerCase())} = ${value},  // stored: do not change`,
  );
  return [`enum class ${pascal(name)}State : uint64_t {`, ...members, '};', ''].join('\n');
}

/** Text of native/include/layout.gen.h. */
export function cppHeader(): string {
  const constants = Object.entries(CONSTANTS).map(
    ([name, c]) => `inline constexpr uint32_t ${constantName(name)} = ${hex(c.value)};  // ${c.doc}`,
  );
  return [
    '// Generated from daxfs/layout.ts by `npm run gen`. Do not edit.',
    '#pragma once',
    '#include <cstddef>',
    '#include <cstdint>',
    '',
    'namespace daxserve::layout {',
    '',
    '/// A bit range of a 64-bit word.',
    'struct Bits {',
    '  unsigned shift;',
    '  unsigned width;',
    '  constexpr uint64_t max() const { return (uint64_t{1} << width) - 1; }',
    '  constexpr uint64_t get(uint64_t word) const { return (word >> shift) & max(); }',
    '  constexpr uint64_t set(uint64_t word, uint64_t value) const {',
    '    return (word & ~(max() << shift)) | ((value & max()) << shift);',
    '  }',
    '};',
    '',
    ...constants,
    `inline constexpr uint64_t kLocatorMagic = ${hex(LOCATOR_MAGIC)};`,
    `inline constexpr uint64_t kRegistryMagic = ${hex(REGISTRY_MAGIC)};`,
    `inline constexpr uint64_t kFingerprint = ${hex(layoutFingerprint())};`,
    'inline constexpr uint64_t kNoHost = 15;',
    'inline constexpr uint64_t kNoContent = 0xfffff;',
    '',
    ...Object.entries(STATES).map(cppStates),
    ...WORDS.map(cppWord),
    ...STRUCTS.map(cppStruct),
    '}  // namespace daxserve::layout',
    '',
  ].join('\n');
}

function fieldTypeText(field: FieldSpec): string {
  if (typeof field.type === 'string') return field.type;
  if ('bytes' in field.type) return `${field.type.bytes} bytes`;
  return `${field.type.count} x ${field.type.array.name}`;
}

function markdownStruct(spec: StructSpec): string {
  const rows = [...fieldOffsets(spec)].map(
    ([field, offset]) =>
      `| ${offset} | ${fieldSize(field.type)} | ${field.name} | ${fieldTypeText(field)} | ${field.doc} |`,
  );
  return [
    `#### ${spec.name}, ${spec.size} bytes (${spec.origin})`,
    '',
    spec.doc,
    '',
    '| offset | size | field | type | meaning |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

function markdownWord(spec: WordSpec): string {
  const rows = spec.bits.map((b) => `| ${b.shift + b.width - 1}..${b.shift} | ${b.name} | ${b.doc} |`);
  return [`#### ${spec.name}`, '', spec.doc, '', '| bits | field | meaning |', '|---|---|---|', ...rows, ''].join('\n');
}

/** The generated part of docs/FORMAT.md. */
export function markdownTables(): string {
  const constants = Object.entries(CONSTANTS).map(([name, c]) => `| ${name} | ${c.value} | ${c.doc} |`);
  const states = Object.entries(STATES).map(
    ([name, values]) =>
      `| ${name} | ${Object.entries(values)
        .map(([state, value]) => `${value} ${state}`)
        .join(', ')} |`,
  );
  return [
    `Layout fingerprint: \`${hex(layoutFingerprint())}\``,
    '',
    '#### Constants',
    '',
    '| name | value | meaning |',
    '|---|---|---|',
    ...constants,
    '',
    '#### States',
    '',
    '| word | values |',
    '|---|---|',
    ...states,
    '',
    ...WORDS.map(markdownWord),
    ...STRUCTS.map(markdownStruct),
  ].join('\n');
}

const BEGIN = '<!-- generated from daxfs/layout.ts by `npm run gen`: begin -->';
const END = '<!-- generated: end -->';

/** FORMAT.md with its generated part replaced. */
export function withTables(document: string): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin) throw new Error('docs/FORMAT.md has lost its generated-part markers');
  return `${document.slice(0, begin + BEGIN.length)}\n\n${markdownTables()}\n${document.slice(end)}`;
}

function main(root: string): void {
  writeFileSync(join(root, 'native/include/layout.gen.h'), cppHeader());
  const format = join(root, 'docs/FORMAT.md');
  writeFileSync(format, withTables(readFileSync(format, 'utf8')));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) main(process.cwd());
