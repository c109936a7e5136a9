import { Failure } from './chimera-skill.js';

export function run(input, ctx) {
  if (input.text === 'crash') throw new Error('the well is dry');
  if (input.text === 'details') {
    throw new Failure('invalid-input', 'wrong-field', 'The text is wrong.', undefined, { field: '/text' });
  }
  if (input.text === 'too-old') ctx.skills.call('chimera/summarize', { texts: [] }, { fuel: 1 });
  if (input.text === 'undeclared') ctx.secrets.exists('token');
  ctx.progress(0.5, 'asking');
  const tools = ctx.mcp.listTools('social');
  const found = ctx.mcp.call('social', 'search_posts', { query: input.text });
  const both = ctx.mcp.callMany(['a', 'b'].map((query) => ({ slot: 'social', tool: 'search_posts', arguments: { query } })));
  if (found.isError) throw new Failure('transient', 'try-later', found.text, 500);
  ctx.scratch.put('seen', { count: 2 });
  const output = {
    tools: tools.map((tool) => tool.name),
    schema: tools[0].inputSchema,
    found: found.structured,
    both: both.map((one) => (one instanceof Failure ? one.code : one.text)),
    resource: ctx.mcp.readResource('social', 'social://rules'),
    id: ctx.memory.remember('a text', { kind: 'note' }),
    recalled: ctx.memory.recall('text', 3),
    kept: ctx.scratch.get('seen'),
    nothing: ctx.scratch.get('never'),
    top: ctx.trends.top(3600, 2),
    ...since02(ctx),
  };
  ctx.trends.observe('tram', 2, 'posts');
  ctx.scratch.delete('seen');
  return { output, confidence: 0.9, evidence: ['asked'] };
}

function since02(ctx) {
  if (ctx.limits === undefined) return { called: ctx.skills.call('chimera/summarize', { texts: ['x'] }) };
  ctx.memory.forget('memory-1');
  let details;
  try {
    details = ctx.scratch.get('away');
  } catch (failure) {
    details = failure.details;
  }
  const called = ctx.skills.call('chimera/summarize', { texts: ['x'] }, { fuel: 5_000 });
  return { called, details, memory_mb: ctx.limits.memoryMb, took: called.fuel };
}
