// What a skill or a judge in JavaScript is given: a context, failures, and a fake host for unit tests.
//
// Nothing here reaches anything by itself. In the sandbox `chimera skill build` binds a `Context` to the host; in a unit
// test `fakeContext` answers from a list, written as the `answers` of a `[[selftest]]` in skill.toml. The module belongs
// to your project: read it, and change it if you must.

const KINDS = ['invalid-input', 'transient', 'permanent', 'denied'];

/**
 * Throw it when the skill cannot do its job; the host answers with it when *it* cannot do something.
 *
 * `kind` decides what happens next: `invalid-input` (the input cannot be worked on), `transient` (try again later),
 * `permanent` (this skill will never manage) or `denied` (something needed was not granted). `code` is for machines, in
 * kebab-case (else it is made so); `message` is one sentence for people. A code of the host's, such as `not-granted`, is
 * kept only if the host gave it in this run and its message still stands at the end; else it becomes `skill-not-granted`.
 * `details` is data for programs, such as the field that is wrong.
 */
export class Failure extends Error {
  constructor(kind, code, message, retryAfterMs, details) {
    if (!KINDS.includes(kind)) throw new TypeError(`a failure is one of ${KINDS.join(', ')}, not ${kind}`);
    super(message);
    this.name = 'Failure';
    this.kind = kind;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.details = details;
  }
}

/** What a judge can reach: whoever watches. */
export class JudgeContext {
  #ask;

  constructor(ask) {
    this.#ask = ask;
  }

  /** Tells a human who watches how far along the task is, 0 to 1. */
  progress(fraction, message = '') {
    this.#ask('progress.report', { fraction, message });
  }

  /** Writes a log line; the level is debug, info, warn or error. */
  log(message, level = 'info') {
    this.#ask('progress.log', { level, message: String(message) });
  }
}

/**
 * Everything a skill can reach. What `skill.toml` does not declare, or the operator did not grant, is denied.
 *
 * All of it answers at once, without promises: the host suspends the skill while it waits. Ask for something only when
 * it is needed: every answer is recorded, so that a run that was interrupted goes on where it stopped.
 */
export class Context extends JudgeContext {
  constructor(ask, task = {}) {
    super(ask);
    /** The task's id, the same on every attempt. */
    this.taskId = task.id ?? 'task';
    /** The campaign's id, or undefined. */
    this.campaign = task.campaign;
    /** What was left of the deadline when the skill started, in milliseconds. */
    this.timeLeftMs = task.timeLeftMs ?? 10_000;
    /** The most that this run may use: `timeMs`, `fuel`, `memoryMb`, `outputKb`, `mcpCalls`. Undefined before contract 0.2. */
    this.limits = task.limits;

    /** Tools of the slots that skill.toml names under `[capabilities] mcp`. */
    this.mcp = {
      /** The tools that may be called: `name`, `description`, `inputSchema`. */
      listTools: (slot) => ask('mcp.list-tools', { slot }),
      /** Calls one tool: `text`, `structured` (or null), and `isError` if the tool itself says that it failed. */
      call: (slot, tool, args = {}) => ask('mcp.call-tool', { slot, tool, arguments: args }),
      /** Calls up to 16 tools at once, each `{ slot, tool, arguments }`; a `Failure` stands where there is no answer. */
      callMany: (calls) => ask('mcp.call-tools', { calls }),
      /** Reads a resource that skill.toml names. */
      readResource: (slot, uri) => ask('mcp.read-resource', { slot, uri }),
    };

    /** Long-term memory that all versions of this skill share. */
    this.memory = {
      /** Remembers a text; returns its id. */
      remember: (text, metadata = {}) => ask('memory.remember', { text, metadata }),
      /** What is closest in meaning, best first: `id`, `text`, `metadata`, `score`. */
      recall: (query, limit = 10) => ask('memory.recall', { query, limit }),
      /** Forgets what has this id, if anything has. Needs contract 0.2. */
      forget: (id) => void ask('memory.forget', { id }),
    };

    /** Small values that are forgotten one hour after they were put. */
    this.scratch = {
      /** The value, or null if there is none. */
      get: (key) => ask('scratch.get', { key }),
      /** Keeps a value. */
      put: (key, value) => void ask('scratch.put', { key, value }),
      /** Forgets a key. */
      delete: (key) => void ask('scratch.delete', { key }),
    };

    /** What content is rising. */
    this.trends = {
      /** Notes something seen. */
      observe: (topic, weight = 1, source = '') => void ask('trends.observe', { topic, weight, source }),
      /** The strongest topics of the last seconds: `topic`, `weight`, `count`. */
      top: (windowSeconds, limit = 10) => ask('trends.top', { window_seconds: windowSeconds, limit }),
    };

    /** Other skills that skill.toml names. */
    this.skills = {
      /**
       * Runs another skill: `output`, `confidence`, `evidence`, and what it used, `timeMs` and `fuel`. With `timeMs` or
       * `fuel` as the third argument it may use at most that, so that enough is left for what comes after it. Both need
       * contract 0.2, and so does what it used.
       */
      call: (name, input, { timeMs, fuel } = {}) => {
        const budget = timeMs === undefined && fuel === undefined ? {} : { budget: { time_ms: timeMs, fuel } };
        return ask('skills.call', { name, input, ...budget });
      },
    };

    /** A secret's value never gets here: tools use it on the host's side. */
    this.secrets = {
      /** Did the operator configure a secret of this name? */
      exists: (name) => ask('secrets.exists', { name }),
    };
  }
}

/**
 * Runs a skill on JSON text and gives its outcome with the output as JSON text. Anything else thrown than a `Failure`
 * becomes one; its stack goes to the log.
 */
export function runTask(run, inputJson, ctx) {
  return orFailure(ctx, () => {
    const { output, confidence = 1, evidence = [] } = run(JSON.parse(inputJson), ctx) ?? {};
    const json = JSON.stringify(output);
    if (json === undefined) throw new TypeError('run() must return { output, confidence, evidence }, and not a promise');
    return { json, confidence, evidence };
  });
}

const DECISIONS = ['approve', 'retry', 'replan', 'escalate', 'reject'];

/** Runs a judge on a case; what it throws goes the same way as a skill's. */
export function runJudge(evaluate, judged, ctx) {
  return orFailure(ctx, () => {
    const { decision, reason = '', confidence = 1 } = evaluate(judged, ctx) ?? {};
    if (!DECISIONS.includes(decision)) {
      throw new TypeError(`evaluate() must return { decision, reason, confidence } with a decision of ${DECISIONS.join(', ')}`);
    }
    return { decision, reason: String(reason), confidence };
  });
}

function orFailure(ctx, act) {
  try {
    return act();
  } catch (error) {
    if (error instanceof Failure) throw error;
    const line = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    ctx.log(`${line}\n${error?.stack ?? ''}`, 'error');
    throw new Failure('permanent', 'exception', line);
  }
}

/**
 * A context for unit tests: it answers from a list, first to last. An answer is written as in skill.toml:
 * `{ call: 'scratch.get', args: { key: 'seen' }, answer: 3 }`; `args` may be a part of the arguments, or be left out, and
 * `failure` with `kind`, `code`, `message` stands instead of `answer`. `context.host` has what is `left` of the answers,
 * and what was `logged` and `reported`.
 */
export function fakeContext(answers = [], task = {}) {
  const host = { left: [...answers], logged: [], reported: [] };
  const next = (call, args) => {
    const answer = host.left.shift();
    if (answer === undefined || answer.call !== call || !contains(args, answer.args ?? {})) {
      const expected = answer === undefined ? 'no answer is left for it' : `the next answer is for ${JSON.stringify(answer)}`;
      throw new Error(`the skill called ${call} with ${JSON.stringify(args)}, and ${expected}`);
    }
    const { failure } = answer;
    if (failure) throw new Failure(failure.kind, failure.code, failure.message, failure.retry_after_ms, failure.details);
    return named(call, answer.answer ?? null);
  };
  const one = (wanted) => {
    try {
      return next('mcp.call-tool', wanted);
    } catch (error) {
      if (error instanceof Failure) return error;
      throw error;
    }
  };
  const ask = (call, args) => {
    if (call === 'progress.log') return void host.logged.push([args.level, args.message]);
    if (call === 'progress.report') return void host.reported.push([args.fraction, args.message]);
    return call === 'mcp.call-tools' ? args.calls.map(one) : next(call, args);
  };
  return Object.assign(new Context(ask, task), { host });
}

/** An answer as skill.toml writes it, in the names that a skill sees. */
function named(call, answer) {
  if (call === 'mcp.list-tools') return answer.map(({ input_schema, ...tool }) => ({ inputSchema: input_schema, ...tool }));
  if (call === 'mcp.call-tool') {
    const { is_error: isError = false, structured = null, text = '', ...rest } = answer;
    return { text, structured, isError, ...rest };
  }
  if (call !== 'skills.call') return answer;
  const { time_ms: timeMs = 0, fuel = 0, ...outcome } = answer;
  return { confidence: 1, evidence: [], ...outcome, timeMs, fuel };
}

/** A judge's context for unit tests; `context.host` keeps what it `logged` and `reported`. */
export function fakeJudgeContext() {
  const host = { logged: [], reported: [] };
  const ask = (call, args) => {
    if (call === 'progress.log') host.logged.push([args.level, args.message]);
    else host.reported.push([args.fraction, args.message]);
  };
  return Object.assign(new JudgeContext(ask), { host });
}

function contains(whole, part) {
  if (part === null || typeof part !== 'object' || Array.isArray(part)) return JSON.stringify(whole) === JSON.stringify(part);
  return whole !== null && typeof whole === 'object' && Object.keys(part).every((key) => key in whole && contains(whole[key], part[key]));
}
