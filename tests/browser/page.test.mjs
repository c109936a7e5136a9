// The dashboard in a real browser: a campaign is started, its approval shows the exact arguments, a click approves it,
// and the page follows by itself. Driven by `cargo xtask test`.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, existsSync, readdirSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const patience = 60_000;
const shots = join(import.meta.dirname, 'shots');
mkdirSync(shots, { recursive: true });

async function until(what, check) {
  const end = Date.now() + patience;
  while (Date.now() < end) {
    const found = await check();
    if (found) return found;
    await new Promise((wake) => setTimeout(wake, 50));
  }
  throw new Error(`waited in vain for ${what}`);
}

async function install(call) {
  const components = join(process.env.CHIMERA_GUEST_TARGET, 'chimera');
  for (const name of readdirSync(components).filter((name) => /^chimera-(?!keywords|readability).*\.wasm$/.test(name))) {
    await call('POST', '/api/v1/skills', readFileSync(join(components, name)), 'application/wasm');
  }
  await call('POST', '/api/v1/grants', { skill: 'chimera/publish-post', slot: 'social', server: 'social' });
}

async function serve({ skills = true } = {}) {
  const data = mkdtempSync(join(tmpdir(), 'chimera-browser-'));
  const child = spawn(process.env.CHIMERA_BIN, ['serve', '--listen', '127.0.0.1:0'], {
    env: { ...process.env, CHIMERA_DATA_DIR: data }, stdio: ['ignore', 'ignore', 'inherit'],
  });
  const file = join(data, 'server.json');
  await until('the server', () => existsSync(file) && existsSync(join(data, 'operator.token')));
  const url = JSON.parse(readFileSync(file, 'utf8')).url.replace(/\/$/, '');
  const token = readFileSync(join(data, 'operator.token'), 'utf8').trim();
  const call = async (method, path, body, type = 'application/json') => {
    const answer = await fetch(url + path, {
      method, headers: { authorization: `Bearer ${token}`, 'content-type': type },
      body: type === 'application/json' && body !== undefined ? JSON.stringify(body) : body,
    });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
    return answer.json();
  };
  if (skills) await install(call);
  const stop = () => new Promise((done) => {
    child.once('exit', () => { rmSync(data, { recursive: true, force: true }); done(); });
    child.kill('SIGTERM');
  });
  const asks = (bearer) => fetch(`${url}/api/v1/session`, { headers: { authorization: `Bearer ${bearer}` } }).then((answer) => answer.status);
  return { url, token, call, asks, stop };
}

const launch = () => chromium.launch({
  executablePath: process.env.CHIMERA_CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

async function logIn(page, server) {
  await page.getByLabel(/token/i).fill(server.token);
  await page.getByRole('button', { name: /sign in|log in/i }).click();
  await isIn(page);
}

const isIn = (page) => page.getByRole('heading', { name: /campaigns/i }).first().waitFor({ timeout: patience });
const isLive = (page) => page.locator('#live').getByText('live', { exact: true }).waitFor({ timeout: patience });
const isOut = (page) => page.getByLabel(/operator's token/i).waitFor({ timeout: patience });
const sessionOf = (page) => page.evaluate(() => sessionStorage.getItem('chimera.session'));

const posts = readFileSync(join(import.meta.dirname, '../../host/server/demo/posts.jsonl'), 'utf8')
  .split('\n').filter(Boolean).map((line) => JSON.parse(line));
const campaign = {
  title: 'browser <script>alert(1)</script> \u202edlrow',
  goal: 'Find what people are talking about in these posts, summarise the main trends, draft a post of at most 280 characters, check it against our policy and publish it.',
  inputs: { posts: [...posts, { id: 'hostile', text: 'this <img src=x onerror=alert(2)> is no picture' }], policy: { max_chars: 280, max_hashtags: 3 } },
};

test('a human approves a publish step on the page', { timeout: 180_000 }, async () => {
  const server = await serve();
  const browser = await launch();
  try {
    const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
    const problems = [];
    page.on('pageerror', (error) => problems.push(String(error)));
    page.on('dialog', (dialog) => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });

    // Without a token the page asks for it and shows nothing.
    await page.goto(server.url);
    await logIn(page, server);

    await server.call('POST', '/api/v1/campaigns', campaign);
    await page.getByText('browser <script>').first().waitFor({ timeout: patience });
    const approve = page.getByRole('button', { name: /^approve/i }).first();
    await approve.waitFor({ timeout: patience });
    await page.screenshot({ path: join(shots, 'approval.png'), fullPage: true });
    assert.match(await page.locator('body').innerText(), /publish_post/, 'the exact tool and arguments are shown');
    await approve.click();
    await page.getByText(/completed/i).first().waitFor({ timeout: patience });
    await page.screenshot({ path: join(shots, 'completed.png'), fullPage: true });

    assert.match(await page.locator('#campaign-title').innerText(), /\ufffddlrow/, 'what turns the writing around is shown as such');
    for (const width of [1200, 1350]) {
      await page.setViewportSize({ width, height: 900 });
      await page.screenshot({ path: join(shots, `wide-${width}.png`), fullPage: true });
      const cut = await page.evaluate(() => Math.max(...[...document.querySelectorAll('.scroll')].map((it) => it.scrollWidth - it.clientWidth)));
      assert.ok(cut <= 1, `at ${width} px the table of tasks is cut by ${cut} px`);
    }
    await page.setViewportSize({ width: 390, height: 800 });
    await page.screenshot({ path: join(shots, 'narrow.png'), fullPage: true });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(overflow <= 1, `the narrow page scrolls sideways by ${overflow} px`);
    assert.deepEqual(problems, []);
  } finally {
    await browser.close();
    await server.stop();
  }
});

test('a session belongs to its tab, survives a reload, and ends with the logout', { timeout: 180_000 }, async () => {
  const server = await serve({ skills: false });
  const browser = await launch();
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    const problems = [];
    page.on('pageerror', (error) => problems.push(String(error)));
    page.on('console', (said) => { if (/Content Security Policy/i.test(said.text())) problems.push(said.text()); });
    await page.goto(server.url);
    await logIn(page, server);
    await isLive(page);
    const session = await sessionOf(page);
    assert.equal(await server.asks(session), 200);
    assert.deepEqual(await context.cookies(), [], 'a cookie would be sent to every port of this machine');

    await page.reload();
    await isIn(page);
    await isLive(page);
    assert.equal(await sessionOf(page), session, 'a reload needs no login');
    await server.call('POST', '/api/v1/campaigns', { title: 'told by the stream', goal: 'Fold every paper crane in the drawer' });
    await page.getByText('told by the stream').first().waitFor({ timeout: patience });

    const other = await context.newPage();
    await other.goto(server.url);
    await isOut(other);
    assert.equal(await sessionOf(other), null, 'another tab has no session');

    await page.getByRole('button', { name: /log out/i }).click();
    await isOut(page);
    assert.equal(await sessionOf(page), null);
    await until('the end of the session', async () => await server.asks(session) === 401);
    await page.reload();
    await isOut(page);

    // Ended by somebody else: the page notices, asks, and lets in again.
    await logIn(page, server);
    await isLive(page);
    const again = await sessionOf(page);
    const ended = await fetch(`${server.url}/logout`, { method: 'POST', headers: { authorization: `Bearer ${again}` } });
    assert.equal(ended.status, 204);
    await isOut(page);
    await logIn(page, server);
    await isLive(page);
    assert.deepEqual(problems, []);
  } finally {
    await browser.close();
    await server.stop();
  }
});

test('a link logs in once and leaves nothing in the address', { timeout: 180_000 }, async () => {
  const server = await serve({ skills: false });
  const browser = await launch();
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    const asked = [];
    page.on('request', (request) => asked.push(`${request.url()} ${JSON.stringify(request.headers())}`));
    const { url } = await server.call('POST', '/api/v1/session/links', {});
    const ticket = new URL(url).hash.replace('#ticket=', '');
    assert.ok(ticket.length > 20, url);
    await page.goto(url);
    await isIn(page);
    await isLive(page);
    assert.equal(page.url(), `${server.url}/`, 'the ticket is gone from the address');
    assert.ok(!asked.some((line) => line.replace(/#.*? /, ' ').includes(ticket)), 'the ticket is in no address and no header');
    const session = await sessionOf(page);

    // The same link again, in another tab: it is used up.
    const late = await context.newPage();
    await late.goto(url);
    await isOut(late);
    await late.getByText(/opened before/i).waitFor({ timeout: patience });

    // A new link in the tab that is open: only the fragment changes, and the session of before ends.
    const next = await server.call('POST', '/api/v1/session/links', {});
    await page.evaluate((to) => { location.href = to; }, next.url);
    await until('the new session', async () => { const now = await sessionOf(page); return now && now !== session; });
    await until('the end of the old one', async () => await server.asks(session) === 401);
    await isLive(page);
    assert.equal(page.url(), `${server.url}/`);
  } finally {
    await browser.close();
    await server.stop();
  }
});

test('another site cannot talk to the server', async () => {
  const server = await serve();
  try {
    const foreign = await fetch(`${server.url}/api/v1/campaigns`, { headers: { authorization: `Bearer ${server.token}`, origin: 'http://evil.example' } });
    assert.equal(foreign.status, 403);
    const nobody = await fetch(`${server.url}/api/v1/campaigns`);
    assert.equal(nobody.status, 401);
  } finally {
    await server.stop();
  }
});
