// Unit tests: the judge as plain JavaScript. Run them with `npm test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeJudgeContext } from '../chimera-skill.js';
import { evaluate } from '../skill.js';

test('spaces say nothing', () => {
  const { decision } = evaluate({ output: { text: ' '.repeat(100) } }, fakeJudgeContext());
  assert.equal(decision, 'retry');
});

test('it logs whose text it is', () => {
  const ctx = fakeJudgeContext();
  evaluate({ skill: 'acme/draft', output: { text: 'hello' } }, ctx);
  assert.deepEqual(ctx.host.logged, [['info', '5 characters by acme/draft']]);
});

test('what is no text is not judged', () => {
  assert.throws(() => evaluate({ output: ['hello'] }, fakeJudgeContext()), { kind: 'invalid-input', code: 'no-text' });
});
