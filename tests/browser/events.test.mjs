// The page's reader of server-sent events, without a browser: whatever the network makes of a stream, the same events
// come out. Driven by `cargo xtask test`.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

// Read as a module whatever Node takes a `.js` file for.
const source = readFileSync(join(import.meta.dirname, '../../host/server/src/dashboard/events.js'), 'utf8');
const { eventParser, readEvents } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

/** What comes out when the text comes in pieces of this size. */
function read(text, size = text.length) {
  const events = [];
  const parse = eventParser((type, data) => events.push([type, data]), (millis) => events.push(['retry', millis]));
  for (let at = 0; at < text.length; at += size) {
    parse('');
    parse(text.slice(at, at + size));
  }
  return events;
}

const stream = [
  ': listening', 'retry: 2000', '',
  'event: audit', 'data: {"a":1}', '',
  'data: one', 'data:two', 'data', 'data:  three', '',
  'event: nothing', '', ':', ': comment', 'id: 7', 'unknown: x', 'retry: soon', 'retry:', '',
  'event:progress', 'data: a: b', '', '',
  'data: \u00e4\u{1f600}', '',
  'event: missed', 'data: {}', '',
  'data: never ended',
];
const events = [
  ['retry', 2000], ['audit', '{"a":1}'], ['message', 'one\ntwo\n\n three'], ['progress', 'a: b'],
  ['message', '\u00e4\u{1f600}'], ['missed', '{}'],
];

test('the same events come out, however the lines end and wherever the stream is cut', () => {
  for (const end of ['\n', '\r\n', '\r']) {
    const text = stream.join(end);
    for (const size of [1, 2, 3, 7, text.length]) assert.deepEqual(read(text, size), events, `${JSON.stringify(end)} ${size}`);
  }
});

test('an event that has no end is not kept', () => {
  const parse = eventParser(() => {});
  const mebibyte = 'x'.repeat(1 << 20);
  assert.throws(() => { for (let count = 0; count < 6; count += 1) parse(mebibyte); }, /too long/);
  const lines = eventParser(() => {});
  assert.throws(() => { for (let count = 0; count < 6; count += 1) lines(`data: ${mebibyte}\n`); }, /too long/);
});

/** A server that answers with these, one a request. */
async function answering(work, ...answers) {
  const server = createServer((request, response) => answers.shift()(request, response));
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  try {
    await work(`http://127.0.0.1:${server.address().port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test('a stream is read to its end, with the header, and letters cut in two are put together', async () => {
  const heard = [];
  const options = {
    headers: { Authorization: 'Bearer secret' }, onOpen: () => heard.push('open'),
    onEvent: (type, data) => heard.push([type, data]), onRetry: () => {},
  };
  await answering(async (url) => {
    await readEvents(url, options);
    assert.deepEqual(heard, ['open', ['message', 'Bearer secret \u00e4']]);
    await assert.rejects(readEvents(url, options), /answered 401/);
    await assert.rejects(readEvents(url, options), /answered 200/);
    assert.equal(heard.length, 2, 'what was refused was not opened');
  }, (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const bytes = Buffer.from(`data: ${request.headers.authorization} \u00e4\n\n`);
    const cut = bytes.length - 3;
    response.write(bytes.subarray(0, cut));
    setTimeout(() => response.end(bytes.subarray(cut)), 50);
  }, (_, response) => response.writeHead(401).end(), (_, response) => response.writeHead(200, { 'Content-Type': 'text/html' }).end('<p>'));
});

test('a stream that is stopped is read no further', async () => {
  const stop = new AbortController();
  await answering(async (url) => {
    const reading = readEvents(url, { headers: {}, signal: stop.signal, onOpen: () => {}, onEvent: () => stop.abort(), onRetry: () => {} });
    await assert.rejects(reading, { name: 'AbortError' });
  }, (_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write('data: x\n\n');
  });
});
