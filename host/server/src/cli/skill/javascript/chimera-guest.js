// Between the contract and a skill in JavaScript: what the component exports, and the context's way to the host.
//
// Written into the build folder by `chimera skill build`, with `chimera-host.js`, which imports what skill.toml
// declares; the author's module is `skill.js`, the helper `chimera-skill.js`, which may be of an older template. It fits
// every version of the contract that is served.

import { host, version } from './chimera-host.js';
import { Context, Failure, runTask } from './chimera-skill.js';
import { run } from './skill.js';

const LOG_LINE = 4096;
/** Contract 0.1 has no budgets, details, limits and no way to forget. */
const IS_FIRST = version.startsWith('0.1.');
const LEVELS = ['debug', 'info', 'warn', 'error'];

const parsed = (text) => (text === undefined || text === null ? null : JSON.parse(text));
const toCall = ({ slot, tool, arguments: args }) => ({ slot, tool, arguments: JSON.stringify(args) });
const answer = (told) => ({ text: told.text, structured: parsed(told.structured), isError: told.isError });

function failure(told) {
  const pause = told.retryAfterMs;
  const made = new Failure(told.kind, told.code, told.message, pause === undefined ? undefined : Number(pause));
  made.details = told.details === undefined ? undefined : JSON.parse(told.details);
  return made;
}

function tooOld(what) {
  const message = `${what} needs contract 0.2; write contract = "0.2" in skill.toml and build again.`;
  return new Failure('permanent', 'contract-too-old', message);
}

const outcome = (told) => ({ output: JSON.parse(told.output), confidence: told.confidence, evidence: told.evidence });
const whole = (number) => (number === undefined || number === null ? undefined : BigInt(Math.round(number)));

function callSkill(skills, { name, input, budget }) {
  const text = JSON.stringify(input);
  if (IS_FIRST) {
    if (budget !== undefined) throw tooOld('A budget for a called skill');
    return outcome(skills.call(name, text));
  }
  const given = budget === undefined ? undefined : { timeMs: whole(budget.time_ms), fuel: whole(budget.fuel) };
  const told = skills.call(name, text, given);
  return { ...outcome(told.outcome), timeMs: Number(told.timeMs), fuel: Number(told.fuel) };
}

const CALLS = {
  'progress.report': (progress, a) => progress.report(a.fraction, a.message),
  'progress.log': (progress, a) => {
    const level = LEVELS.includes(a.level) ? a.level : 'info';
    for (const line of a.message.split('\n')) progress.log(level, line.slice(0, LOG_LINE));
  },
  'mcp.list-tools': (mcp, a) =>
    mcp.listTools(a.slot).map((tool) => ({
      name: tool.name, description: tool.description, inputSchema: JSON.parse(tool.inputSchema),
    })),
  'mcp.call-tool': (mcp, a) => answer(mcp.callTool(toCall(a))),
  'mcp.call-tools': (mcp, a) =>
    mcp.callTools(a.calls.map(toCall)).map((one) => (one.tag === 'ok' ? answer(one.val) : failure(one.val))),
  'mcp.read-resource': (mcp, a) => mcp.readResource(a.slot, a.uri),
  'memory.remember': (memory, a) => memory.remember(a.text, JSON.stringify(a.metadata)),
  'memory.recall': (memory, a) =>
    memory.recall(a.query, a.limit).map((item) => ({
      id: item.id, text: item.text, metadata: JSON.parse(item.metadata), score: item.score,
    })),
  'memory.forget': (memory, a) => {
    if (IS_FIRST) throw tooOld('memory.forget');
    memory.forget(a.id);
  },
  'scratch.get': (scratch, a) => parsed(scratch.get(a.key)),
  'scratch.put': (scratch, a) => scratch.put(a.key, JSON.stringify(a.value)),
  'scratch.delete': (scratch, a) => scratch['delete'](a.key),
  'trends.observe': (trends, a) => trends.observe({ topic: a.topic, weight: a.weight, source: a.source }),
  'trends.top': (trends, a) =>
    trends.top(BigInt(a.window_seconds), a.limit).map((one) => ({
      topic: one.topic, weight: one.weight, count: Number(one.count),
    })),
  'skills.call': callSkill,
  'secrets.exists': (secrets, a) => secrets.exists(a.name),
};

function ask(call, args) {
  const [name] = call.split('.');
  if (host[name] === undefined) {
    const message = `${call} needs \`${name}\` under [capabilities] in skill.toml, which does not declare it.`;
    throw new Failure('permanent', 'not-declared', message);
  }
  try {
    return CALLS[call](host[name], args);
  } catch (error) {
    if (error instanceof Failure) throw error;
    // What the host fails with comes as the payload of an error.
    const told = error?.payload ?? error;
    throw typeof told?.code === 'string' && typeof told?.kind === 'string' ? failure(told) : error;
  }
}

function told(error) {
  return {
    kind: error.kind,
    code: String(error.code).slice(0, 64),
    message: String(error.message).slice(0, 2048),
    retryAfterMs: whole(error.retryAfterMs),
    details: error.details === undefined ? undefined : JSON.stringify(error.details),
  };
}

function limits({ timeMs, fuel, memoryMb, outputKb, mcpCalls }) {
  return { timeMs: Number(timeMs), fuel: Number(fuel), memoryMb, outputKb, mcpCalls };
}

/** The exported interface `runner`. */
export const runner = {
  run(task) {
    const ctx = new Context(ask, {
      id: task.id, campaign: task.campaign, timeLeftMs: Number(task.timeLeftMs),
      limits: IS_FIRST ? undefined : limits(task.limits),
    });
    try {
      const outcome = runTask(run, task.input, ctx);
      return {
        output: outcome.json,
        confidence: Number(outcome.confidence),
        evidence: [...outcome.evidence].map(String),
      };
    } catch (error) {
      if (error instanceof Failure) throw told(error);
      throw error;
    }
  },
};
