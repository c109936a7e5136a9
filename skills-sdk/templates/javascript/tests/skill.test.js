// Unit tests: the skill as plain JavaScript, with a host that answers from a list. Run them with `npm test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeContext } from '../chimera-skill.js';
import { run } from '../skill.js';

test('the most frequent word comes first', () => {
  const { output } = run({ text: 'to be or not to be, to', top: 2 }, fakeContext());
  assert.deepEqual(output, { words: 7, top: ['to', 'be'] });
});

test('it logs what it does', () => {
  const ctx = fakeContext();
  run({ text: 'hello' }, ctx);
  assert.deepEqual(ctx.host.logged, [['info', 'counting 1 words']]);
});

test('a text without words is refused', () => {
  assert.throws(() => run({ text: '…' }, fakeContext()), { kind: 'invalid-input', code: 'no-words' });
});
