// Unit tests, natively: `npm test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeContext } from '../chimera-skill.js';
import { run } from '../skill.js';
import { sentencesOf, syllablesOf } from '../text.js';

test('syllables of words whose count is known', () => {
  const known = { cat: 1, table: 2, made: 1, idea: 2, syllable: 3, walked: 1, 'well-known': 2, rhythm: 1, university: 5 };
  const counted = Object.fromEntries(Object.keys(known).map((word) => [word, syllablesOf(word)]));
  assert.deepEqual(counted, known);
});

test('sentences end at their marks, not at abbreviations', () => {
  assert.equal(sentencesOf('Is it? "Yes!" he said. Dr. Who came…').length, 4);
  assert.equal(sentencesOf('A heading\n\nA line. 42!').length, 2);
});

test('the formulas are those of the books', () => {
  const { output } = run({ text: 'The cat sat on the mat.' }, fakeContext());
  // 206.835 - 1.015 * 6 - 84.6 * 1, and 0.39 * 6 + 11.8 - 15.59.
  assert.equal(output.reading_ease, 116.15);
  assert.equal(output.grades.flesch_kincaid, -1.45);
});

test('more text is surer', () => {
  const sentence = 'The council wants to rebuild the old bridge before the winter comes. ';
  const few = run({ text: sentence }, fakeContext()).confidence;
  const many = run({ text: sentence.repeat(20) }, fakeContext()).confidence;
  assert.ok(few < many && many <= 1, `${few} ${many}`);
});

test('a text without words is refused', () => {
  assert.throws(() => run({ text: '…' }, fakeContext()), { kind: 'invalid-input', code: 'no-words' });
});
