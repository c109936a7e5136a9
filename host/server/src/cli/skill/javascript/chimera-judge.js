// Between the contract and a judge in JavaScript: what the component exports, and the way to its log.
//
// Written into the build folder by `chimera skill build`, with `chimera-host.js`; the author's module is `skill.js`, the
// helper `chimera-skill.js`. It fits every version of the contract that is served.

import { host } from './chimera-host.js';
import { Failure, JudgeContext, runJudge } from './chimera-skill.js';
import { evaluate } from './skill.js';

const LOG_LINE = 4096;
const LEVELS = ['debug', 'info', 'warn', 'error'];

function ask(call, args) {
  const { progress } = host;
  if (call === 'progress.report') return progress.report(args.fraction, args.message);
  const level = LEVELS.includes(args.level) ? args.level : 'info';
  for (const line of args.message.split('\n')) progress.log(level, line.slice(0, LOG_LINE));
}

function told(error) {
  return {
    kind: error.kind,
    code: String(error.code).slice(0, 64),
    message: String(error.message).slice(0, 2048),
    retryAfterMs: error.retryAfterMs === undefined ? undefined : BigInt(Math.round(error.retryAfterMs)),
    details: error.details === undefined ? undefined : JSON.stringify(error.details),
  };
}

/** The exported interface `evaluator`. */
export const evaluator = {
  evaluate(judged) {
    const shown = { ...judged, input: JSON.parse(judged.input), output: JSON.parse(judged.output) };
    try {
      const verdict = runJudge(evaluate, shown, new JudgeContext(ask));
      return { ...verdict, reason: verdict.reason.slice(0, 2048), confidence: Number(verdict.confidence) };
    } catch (error) {
      if (error instanceof Failure) throw told(error);
      throw error;
    }
  },
};
