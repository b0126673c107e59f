// Draws one view of data.json with Grafana's own widgets, transformations and field display. The rows' headings, the bar
// with the variables, and the marks of annotations are ours: those parts of Grafana are in no package.
import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';
import React, { useLayoutEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';
import {
  EventBusSrv,
  FieldConfigOptionsRegistry,
  FieldType,
  LoadingState,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createDataFrame,
  createTheme,
  dateTime,
  getFieldDisplayValues,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, PanelContextProvider, ThemeContext, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

const view = window.view;
const theme = createTheme({ colors: { mode: view.theme } });
const CELL = 30;
const GAP = 8;
const WIDTH = view.width - 2 * GAP;
// The last label of the time axis needs some room to its right.
const end = Math.floor((view.end - 50) / 60) * 60 + 50;
const range = { from: dateTime(view.start * 1000), to: dateTime(end * 1000) };
const timeRange = { ...range, raw: range };

const GRAPH = {
  drawStyle: 'line', lineInterpolation: 'linear', barAlignment: 0, barWidthFactor: 0.6, lineWidth: 1, fillOpacity: 0,
  gradientMode: 'none', spanNulls: false, showPoints: 'auto', pointSize: 5, axisPlacement: 'auto', axisLabel: '',
  axisColorMode: 'text', axisBorderShow: false, axisCenteredZero: false, scaleDistribution: { type: 'linear' },
  hideFrom: { tooltip: false, viz: false, legend: false }, stacking: { mode: 'none', group: 'A' },
  thresholdsStyle: { mode: 'off' }, insertNulls: false,
};

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((found) => ({
    id: found.id, name: found.name, aliasIds: [], transformation: async () => found,
  })),
);

// Grafana's server has these with their editors; here it matters only where each is written to.
const registry = new FieldConfigOptionsRegistry(() =>
  ['unit', 'noValue', 'decimals', 'min', 'max', 'mappings', 'thresholds', 'links', 'color', 'displayName',
    'custom.width', 'custom.cellOptions', 'custom.align', 'custom.inspect', 'custom.minWidth', 'custom.axisSoftMin',
    'custom.axisSoftMax',
    ...Object.keys(GRAPH).map((key) => `custom.${key}`)].map((id) => ({
    id, path: id.replace(/^custom\./, ''), isCustom: id.startsWith('custom.'), name: id,
    process: (value) => value, shouldApply: () => true, settings: {}, editor: () => null, override: () => null,
  })),
);

function interpolate(text) {
  const chosen = Object.fromEntries(view.board.templating.list.map((found) => [found.name, found.query]));
  return String(text ?? '').replace(/\$\{(\w+)[^}]*\}/g, (all, name) => view.variables[name] ?? chosen[name] ?? all);
}

function legend(format, labels) {
  return format === '__auto' ? undefined : format.replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '');
}

// What Grafana's Prometheus data source makes of an answer.
function frames(panel) {
  const several = panel.targets.length > 1;
  return panel.targets.flatMap((target) => {
    const answer = view.answers[`${panel.id}${target.refId}`];
    if (target.format === 'table') {
      const labels = [...new Set(answer.flatMap((series) => Object.keys(series.metric)))].sort();
      if (answer.length === 0) {
        return [];
      }
      return [createDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: answer.map((series) => series.value[0] * 1000) },
          ...labels.map((name) => ({
            name, type: FieldType.string, values: answer.map((series) => series.metric[name] ?? ''),
          })),
          {
            name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number,
            values: answer.map((series) => Number(series.value[1])),
          },
        ],
      })];
    }
    return answer.map((series) => {
      const step = Math.max(5, panel.interval === '1m' ? 60 : 0) * 1000;
      const points = (series.values ?? [series.value]).flatMap((at, index, all) =>
        // A gap is a gap: Grafana puts a null in where a step is missing.
        index > 0 && (at[0] - all[index - 1][0]) * 1000 > 1.5 * step ? [[at[0] - step / 1000, null], at] : [at],
      );
      return createDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, config: { interval: step }, values: points.map((at) => at[0] * 1000) },
          {
            name: 'Value', type: FieldType.number, labels: series.metric,
            config: { displayNameFromDS: legend(target.legendFormat, series.metric) },
            values: points.map((at) => (at[1] === null ? null : Number(at[1]))),
          },
        ],
      });
    });
  });
}

function overridden(data, fieldConfig) {
  return applyFieldOverrides({
    data, fieldConfig, replaceVariables: interpolate, theme, timeZone: 'utc', fieldConfigRegistry: registry,
  });
}

function Stat({ panel, data, width, height }) {
  const values = getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: interpolate, theme,
    data: overridden(data, panel.fieldConfig), sparkline: false, timeZone: 'utc',
  });
  return values.slice(0, 1).map((value, index) => (
    <BigValue key={index} width={width} height={height} value={{ ...value.display, title: value.display.title }}
      text={panel.options.text} colorMode={panel.options.colorMode} graphMode="none" textMode={panel.options.textMode ?? 'auto'}
      justifyMode="auto" theme={theme} count={1} />
  ));
}

// The rules of Grafana's data source: marks that touch become one region; a value may be the time itself.
function events() {
  return view.marks.flatMap((mark) =>
    mark.answer.flatMap((series) => {
      const found = [];
      const times = series.values
        .filter(([, value]) => Number(value) > 0)
        .map(([at, value]) => (mark.useValueForTime ? Number(value) / 1000 : at));
      for (const at of times) {
        const last = found[found.length - 1];
        if (last && last.end + 15 >= at) {
          last.end = at;
        } else {
          found.push({ start: at, end: at, color: theme.visualization.getColorByName(mark.iconColor) });
        }
      }
      return found.filter((event) => event.end >= view.start && event.start <= end);
    }),
  );
}

function Marks({ config }) {
  useLayoutEffect(() => {
    config.addHook('draw', (plot) => {
      const { ctx, bbox } = plot;
      const ratio = window.devicePixelRatio;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top - 2, bbox.width, bbox.height + 12 * ratio);
      ctx.clip();
      for (const event of events()) {
        const from = plot.valToPos(event.start * 1000, 'x', true);
        const to = plot.valToPos(event.end * 1000, 'x', true);
        ctx.strokeStyle = event.color;
        ctx.fillStyle = event.color;
        ctx.lineWidth = 1.2 * ratio;
        ctx.setLineDash([4 * ratio, 4 * ratio]);
        for (const x of from === to ? [from] : [from, to]) {
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        ctx.globalAlpha = 0.08;
        ctx.fillRect(from, bbox.top, to - from, bbox.height);
        ctx.globalAlpha = 1;
        ctx.fillRect(from - 3 * ratio, bbox.top + bbox.height, Math.max(6 * ratio, to - from), 4 * ratio);
      }
      ctx.restore();
    });
  }, [config]);
  return null;
}

function Graph({ panel, data, width, height }) {
  const defaults = { ...panel.fieldConfig.defaults, custom: { ...GRAPH, ...panel.fieldConfig.defaults.custom } };
  defaults.color = defaults.color ?? { mode: 'palette-classic' };
  const shown = overridden(data, { ...panel.fieldConfig, defaults });
  let series = 0;
  for (const frame of shown) {
    for (const field of frame.fields) {
      if (field.type !== FieldType.time) {
        field.state = { ...field.state, seriesIndex: series++ };
      }
    }
  }
  if (series === 0) {
    return <div style={{ padding: 20, color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
  }
  return (
    <TimeSeries frames={shown} width={width} height={height} timeRange={timeRange} timeZone="utc"
      legend={panel.options.legend} options={panel.options}>
      {(config) => <Marks config={config} />}
    </TimeSeries>
  );
}

function Rows({ panel, data, width, height }) {
  const defaults = { ...panel.fieldConfig.defaults, custom: { cellOptions: { type: 'auto' }, align: 'auto', inspect: false, ...panel.fieldConfig.defaults.custom } };
  const [frame] = overridden(data, { ...panel.fieldConfig, defaults });
  cacheFieldDisplayNames(frame ? [frame] : []);
  if (!frame || frame.length === 0) {
    return <div style={{ padding: 20, color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue}</div>;
  }
  return <TableNG data={frame} width={width} height={height} cellHeight="sm" sortBy={panel.options.sortBy} fieldConfig={panel.fieldConfig}
    timeRange={timeRange} replaceVariables={interpolate} />;
}

const KINDS = { stat: Stat, timeseries: Graph, table: Rows };

function Panel({ panel, data }) {
  const Kind = KINDS[panel.type];
  const { x, y, w, h } = panel.gridPos;
  const column = (WIDTH + GAP) / 24;
  const box = {
    left: GAP + x * column, top: y * (CELL + GAP), width: w * column - GAP, height: h * (CELL + GAP) - GAP,
  };
  return (
    <div style={{ position: 'absolute', ...box }}>
      <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height}
        loadingState={LoadingState.Done} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(width, height) => <Kind panel={panel} data={data} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

function Row({ panel }) {
  return (
    <div style={{
      position: 'absolute', left: 2 * GAP, top: panel.gridPos.y * (CELL + GAP) + 4, fontSize: 18, fontWeight: 500,
      color: theme.colors.text.primary,
    }}>⌄ {panel.title}</div>
  );
}

function Bar() {
  const chips = view.board.templating.list.filter((found) => found.hide !== 2 && found.type === 'query');
  return (
    <div style={{ position: 'absolute', top: 10, left: 2 * GAP, right: 2 * GAP, display: 'flex', gap: 12, alignItems: 'center', whiteSpace: 'nowrap' }}>
      <b style={{ fontSize: 20 }}>{view.board.title}</b>
      {chips.map((found) => (
        <span key={found.name} style={{ border: `1px solid ${theme.colors.border.strong}`, padding: '3px 10px', borderRadius: 2 }}>
          {found.label}: {view.variables[found.name] === '.+' ? 'All' : view.variables[found.name]}
        </span>
      ))}
      {view.marks.map((mark) => (
        <span key={mark.name} style={{ color: theme.visualization.getColorByName(mark.iconColor) }}>┆ {mark.name}</span>
      ))}
    </div>
  );
}

async function main() {
  const shown = [];
  for (const panel of view.board.panels) {
    if (panel.type === 'row') {
      shown.push(<Row key={panel.id} panel={panel} />);
      continue;
    }
    const data = await firstValueFrom(
      transformDataFrame(panel.transformations ?? [], frames(panel), { interpolate }),
    );
    shown.push(<Panel key={panel.id} panel={panel} data={data} />);
  }
  // Widgets measure text when they are drawn.
  await Promise.all(['400 14px Inter', '500 14px Inter'].map((font) => document.fonts.load(font)));
  document.body.style.background = theme.colors.background.canvas;
  document.body.style.color = theme.colors.text.primary;
  createRoot(document.getElementById('root'), { onUncaughtError: told }).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={{ eventBus: new EventBusSrv(), eventsScope: 'here', sync: () => 0 }}>
        <Bar />
        <div style={{ position: 'absolute', top: 50, left: 0, right: 0 }}>{shown}</div>
        <div style={{
          position: 'absolute', top: 56 + view.board.height * (CELL + GAP), left: 2 * GAP,
          color: theme.colors.text.secondary,
        }}>Drawn with Grafana's widgets, not by a Grafana server</div>
      </PanelContextProvider>
    </ThemeContext.Provider>,
  );
}

function told(error) {
  document.body.innerText = error.stack;
}

main().catch(told);
