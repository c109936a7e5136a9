// Between the contract and a skill in JavaScript: what the component exports, and the context's way to the host.
//
// Written into the build folder by `chimera skill build`, with `chimera-host.js`, which imports what skill.toml
// declares; the author's module is `skill.js`, the helper `chimera-skill.js`.

import { host } from './chimera-host.js';
import { Context, Failure, runTask } from './chimera-skill.js';
import { run } from './skill.js';

const LOG_LINE = 4096;
const LEVELS = ['debug', 'info', 'warn', 'error'];

const parsed = (text) => (text === undefined || text === null ? null : JSON.parse(text));
const toCall = ({ slot, tool, arguments: args }) => ({ slot, tool, arguments: JSON.stringify(args) });
const answer = (told) => ({ text: told.text, structured: parsed(told.structured), isError: told.isError });

function failure(told) {
  const pause = told.retryAfterMs;
  return new Failure(told.kind, told.code, told.message, pause === undefined ? undefined : Number(pause));
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
  'scratch.get': (scratch, a) => parsed(scratch.get(a.key)),
  'scratch.put': (scratch, a) => scratch.put(a.key, JSON.stringify(a.value)),
  'scratch.delete': (scratch, a) => scratch['delete'](a.key),
  'trends.observe': (trends, a) => trends.observe({ topic: a.topic, weight: a.weight, source: a.source }),
  'trends.top': (trends, a) =>
    trends.top(BigInt(a.window_seconds), a.limit).map((one) => ({
      topic: one.topic, weight: one.weight, count: Number(one.count),
    })),
  'skills.call': (skills, a) => {
    const told = skills.call(a.name, JSON.stringify(a.input));
    return { output: JSON.parse(told.output), confidence: told.confidence, evidence: told.evidence };
  },
  'secrets.exists': (secrets, a) => secrets.exists(a.name),
};

function ask(call, args) {
  const name = call.split('.')[0];
  if (host[name] === undefined) {
    const message = `${call} needs \`${name}\` under [capabilities] in skill.toml, which does not declare it.`;
    throw new Failure('permanent', 'not-declared', message);
  }
  try {
    return CALLS[call](host[name], args);
  } catch (error) {
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
    retryAfterMs: error.retryAfterMs === undefined ? undefined : BigInt(Math.round(error.retryAfterMs)),
  };
}

/** The exported interface `runner`. */
export const runner = {
  run(task) {
    const ctx = new Context(ask, {
      id: task.id, campaign: task.campaign, timeLeftMs: Number(task.timeLeftMs),
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
