// node draw.mjs [data.json] [NAME=page.html...]: draws the dashboards and these pages in light and in dark, beside this file.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import UPNG from 'upng-js';

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const work = mkdtempSync(join(tmpdir(), 'pgslot-pictures-'));
const dataFile = process.argv.slice(2).find((argument) => argument.endsWith('.json'));
const pages = process.argv.slice(2).filter((argument) => argument.includes('=')).map((argument) => argument.split('='));

const WIDTH = 1440;
// README and the site show a picture at most 1000 px wide: twice that is sharp on every screen.
const PIXELS = 2000;
const COLOURS = 96;
const MARGIN = 30;
const THEMES = ['light', 'dark'];
// Each picture has some rows of a dashboard, by the ids of the rows' panels: a whole dashboard would be too tall to read.
const PICTURES = [
  { name: 'pgslot-fleet', board: 'pgslot-fleet', cluster: '.+', rows: [100, 200, 300] },
  { name: 'pgslot-cluster-in-trouble', board: 'pgslot-cluster', cluster: 'billing', rows: [100, 200, 300] },
  { name: 'pgslot-cluster-healed', board: 'pgslot-cluster', cluster: 'orders', rows: [200, 500] },
  { name: 'pgslot-cluster-failover', board: 'pgslot-cluster', cluster: 'orders', rows: [700] },
];

// Pages need no bundle, and so not the packages that it is made of.
const { build } = dataFile ? await import('esbuild') : {};
if (dataFile) await build({
  entryPoints: [join(here, 'entry.jsx')],
  outfile: join(work, 'bundle.js'),
  bundle: true,
  minify: false,
  jsx: 'automatic',
  define: { global: 'window', 'process.env.NODE_ENV': '"production"' },
  loader: { '.ttf': 'dataurl', '.woff': 'empty', '.woff2': 'dataurl', '.svg': 'dataurl' },
  logLevel: 'error',
});

// The dashboard with these rows only, closed up.
function withRows(board, rows) {
  let top = 0;
  const sections = [];
  for (const panel of board.panels) {
    if (panel.type === 'row') {
      sections.push([]);
    }
    sections.at(-1).push(panel);
  }
  const panels = sections.filter(([row]) => rows.includes(row.id)).flatMap((section) => {
    const from = section[0].gridPos.y;
    const shift = top - from;
    top += Math.max(...section.map(({ gridPos: { y, h } }) => y + h)) - from;
    return section.map((panel) => ({ ...panel, gridPos: { ...panel.gridPos, y: panel.gridPos.y + shift } }));
  });
  return { ...board, panels, height: top };
}

// The window is taller than what is drawn: its last pixel has the background's colour.
function lastDrawnLine(pixels, width) {
  const ground = pixels.at(-1);
  return Math.floor(pixels.findLastIndex((pixel) => pixel !== ground) / width);
}

async function photograph(name, theme, page, width, height) {
  const raw = join(work, `${name}-${theme}.png`);
  await run('chromium', [
    '--headless', '--no-sandbox', `--user-data-dir=${join(work, `profile-${name}-${theme}`)}`, '--disable-gpu', '--hide-scrollbars', '--allow-file-access-from-files',
    `--blink-settings=preferredColorScheme=${theme === 'dark' ? 0 : 1}`, `--force-device-scale-factor=${PIXELS / width}`,
    `--window-size=${width},${height}`, '--virtual-time-budget=15000', `--screenshot=${raw}`, `file://${page}`,
  ], { maxBuffer: 1e8 });
  const picture = UPNG.decode(readFileSync(raw));
  const [rgba] = UPNG.toRGBA8(picture);
  const bottom = Math.min(picture.height, lastDrawnLine(new Uint32Array(rgba), picture.width) + MARGIN);
  const small = UPNG.encode([rgba.slice(0, 4 * picture.width * bottom)], picture.width, bottom, COLOURS);
  writeFileSync(join(here, `${name}-${theme}.png`), Buffer.from(small));
  console.log(`${name}-${theme}.png ${picture.width}x${bottom} ${Math.round(small.byteLength / 1000)} kB`);
}

const { start, end, views } = dataFile ? JSON.parse(readFileSync(dataFile, 'utf-8')) : {};
for (const { name, board: uid, cluster, rows } of dataFile ? PICTURES : []) {
  const answered = views.find(({ board, variables }) => board === uid && variables.cluster === cluster);
  // What it is drawn from is the JSON as it is now: a change of the layout needs no new data.
  const board = withRows(JSON.parse(readFileSync(join(here, '..', 'json', `${uid}.json`), 'utf-8')), rows);
  await Promise.all(THEMES.map((theme) => {
    const page = join(work, `${name}-${theme}.html`);
    const boot = { settings: { featureToggles: {}, theme2: {} }, user: { locale: 'en' } };
    const view = { ...answered, board, start, end, theme, width: WIDTH };
    writeFileSync(page, `<!doctype html><meta charset="utf-8"><title>${name}</title>
<link rel="stylesheet" href="bundle.css">
<body style="margin:0"><div id="root"></div>
<script>
// The page is drawn later than the data was taken: "5 minutes ago" counts from the data's end.
const shift = ${end * 1000} - Date.now();
window.Date = class extends Date {
  constructor(...given) { super(...(given.length ? given : [Date.now()])); }
  static now() { return super.now() + shift; }
};
</script>
<script>window.grafanaBootData=${JSON.stringify(boot)};window.view=${JSON.stringify(view).replaceAll('<', '\\u003c')}</script>
<script src="bundle.js"></script>`);
    return photograph(name, theme, page, WIDTH, board.height * 38 + 100);
  }));
}
for (const [name, page] of pages) {
  await Promise.all(THEMES.map((theme) => photograph(name, theme, resolve(page), 1000, 2000)));
}
rmSync(work, { recursive: true });
