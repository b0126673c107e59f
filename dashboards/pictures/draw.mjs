// node draw.mjs data.json: makes one PNG a view of it, beside this file.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import UPNG from 'upng-js';

const here = dirname(fileURLToPath(import.meta.url));
const work = mkdtempSync(join(tmpdir(), 'pgslot-pictures-'));
const { start, end, views } = JSON.parse(readFileSync(process.argv[2], 'utf-8'));

await build({
  entryPoints: [join(here, 'entry.jsx')],
  outfile: join(work, 'bundle.js'),
  bundle: true,
  minify: false,
  jsx: 'automatic',
  define: { global: 'window', 'process.env.NODE_ENV': '"production"' },
  loader: { '.ttf': 'dataurl', '.woff2': 'dataurl', '.svg': 'dataurl' },
  logLevel: 'error',
});

for (const { board: uid, ...answered } of views) {
  // What it is drawn from is the JSON as it is now: a change of the layout needs no new data.
  const view = { ...answered, board: JSON.parse(readFileSync(join(here, '..', 'json', `${uid}.json`), 'utf-8')) };
  const rows = Math.max(...view.board.panels.map(({ gridPos: { y, h } }) => y + h));
  const page = join(work, `${view.name}.html`);
  const boot = { settings: { featureToggles: {}, theme2: {} }, user: { locale: 'en' } };
  writeFileSync(page, `<!doctype html><meta charset="utf-8"><title>${view.name}</title>
<link rel="stylesheet" href="bundle.css">
<body style="margin:0"><div id="root"></div>
<script>window.grafanaBootData=${JSON.stringify(boot)};window.view=${JSON.stringify({ ...view, start, end }).replaceAll('<', '\\u003c')}</script>
<script src="bundle.js"></script>`);
  const raw = join(work, `${view.name}.png`);
  execFileSync('chromium', [
    '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--allow-file-access-from-files',
    `--window-size=1600,${rows * 38 + 60}`, '--virtual-time-budget=15000', `--screenshot=${raw}`, `file://${page}`,
  ], { stdio: ['ignore', 'ignore', process.env.DEBUG ? 'inherit' : 'ignore'] });
  const picture = UPNG.decode(readFileSync(raw));
  const small = UPNG.encode(UPNG.toRGBA8(picture), picture.width, picture.height, 128);
  writeFileSync(join(here, `${view.name}.png`), Buffer.from(small));
  console.log(`${view.name}.png ${picture.width}x${picture.height} ${Math.round(small.byteLength / 1000)} kB`);
}
rmSync(work, { recursive: true });
