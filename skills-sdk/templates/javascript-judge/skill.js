// Judges whether a text is long enough. Start here: change `evaluate`, then the self-tests in skill.toml.
//
// A case is a finished task: `goal`, `skill`, `input`, `output`, `confidence`, `evidence`. `evaluate` answers at once,
// without promises, and reaches nothing but the log.

import { Failure } from './chimera-skill.js';

// Fewer characters say nothing.
const ENOUGH = 20;

/** Judges whether a text is long enough to say anything. */
export function evaluate(judged, ctx) {
  const text = judged.output?.text;
  if (typeof text !== 'string') {
    throw new Failure('invalid-input', 'no-text', 'The output has no text; this judge judges nothing else.');
  }
  const { length } = text.trim();
  ctx.log(`${length} characters by ${judged.skill}`);
  if (length < ENOUGH) {
    return { decision: 'retry', reason: `The text has ${length} characters; fewer than ${ENOUGH} say nothing.` };
  }
  if (judged.confidence < 0.5) {
    return { decision: 'escalate', reason: 'The skill itself doubts its text.', confidence: 0.7 };
  }
  return { decision: 'approve', reason: 'The text is long enough to say something.', confidence: 0.95 };
}
