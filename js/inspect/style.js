// The panel's style. Its host stands in the page, whose rules would reach it: `!important` inside beats them.

export const STYLE = `
:host { all: initial !important; position: fixed !important; inset: auto 0 0 auto !important; z-index: 2147483647 !important;
  display: block !important; max-width: 100% !important; color-scheme: light dark !important; contain: layout style !important; }
:host([data-open]) { left: 0 !important; }
@media print { :host { display: none !important; } }
* { box-sizing: border-box; margin: 0; }
[hidden] { display: none !important; }
.root { --page: #fbfaf7; --sunken: #f0efea; --ink: #1c1f23; --muted: #565d67; --line: #dcd9d1; --edge: #7d828a; --accent: #0f766e;
  --good: #15703a; --warn: #8f5206; --bad: #b42318; --second: #7a3fa8;
  font: 13px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; color: var(--ink); text-align: left; }
@media (prefers-color-scheme: dark) {
  .root { --page: #16191c; --sunken: #23282d; --ink: #e9ebee; --muted: #a8afb8; --line: #343b42; --edge: #7b838d; --accent: #5fd0c3;
    --good: #6fd394; --warn: #f0b45b; --bad: #ff9488; --second: #cfa2f2; }
}
button, select, input { font: inherit; color: inherit; min-height: 28px; padding: 0 10px; border: 1px solid var(--edge); border-radius: 7px; background: var(--page); }
button { cursor: pointer; font-weight: 550; }
button:hover { background: var(--sunken); }
button[aria-pressed="true"] { border-color: var(--accent); color: var(--accent); }
button.danger { color: var(--bad); }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.launch { display: flex; align-items: center; gap: 8px; min-height: 36px; margin: 0 12px 12px; border-radius: 18px; box-shadow: 0 4px 18px rgb(0 0 0 / 25%); }
.launch i, .state::before { content: ""; flex: none; display: inline-block; width: 8px; height: 8px; border-radius: 50%; background: var(--edge); }
.launch[data-state="alive"] i, .state[data-state="open"]::before { background: var(--good); }
.launch[data-state="interrupted"] i, .state[data-state="waiting"]::before { background: var(--warn); }
.state[data-state="cut"]::before { background: var(--bad); }
.panel { display: flex; flex-direction: column; height: min(52vh, 460px); border-top: 1px solid var(--edge); background: var(--page); box-shadow: 0 -6px 28px rgb(0 0 0 / 18%); }
.head { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; padding: 8px 12px; border-bottom: 1px solid var(--line); }
h2 { margin-right: auto; font-size: 14px; font-weight: 650; }
h3 { padding: 8px 12px 4px; font-size: 12px; font-weight: 650; letter-spacing: .02em; color: var(--muted); }
.said { color: var(--good); }
.columns { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); flex: 1; min-height: 0; }
.column { overflow: auto; min-width: 0; }
.column + .column { display: flex; flex-direction: column; border-left: 1px solid var(--line); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 8px; border-bottom: 1px solid var(--line); text-align: left; font-weight: 400; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 12px; }
thead th { color: var(--muted); font-size: 12px; }
tr.ended td, tr.ended th { color: var(--muted); }
.mono { font: 12px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
.id { display: inline-block; max-width: 11ch; overflow: hidden; text-overflow: ellipsis; vertical-align: bottom; }
.state { display: inline-flex; align-items: center; gap: 6px; min-width: 12ch; }
.actions { display: flex; gap: 4px; }
.actions button:first-child { min-width: 64px; }
.none { padding: 2px 12px 8px; color: var(--muted); }
.plots { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 1px; background: var(--line); border-bottom: 1px solid var(--line); }
.plot { min-width: 0; padding: 6px 10px; background: var(--page); }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 8px; min-height: 38px; color: var(--muted); font-size: 12px; }
.value { color: var(--ink); font-variant-numeric: tabular-nums; }
.plot svg { display: block; width: 100%; height: 48px; }
.line { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.line-1 { stroke: var(--second); stroke-dasharray: 4 2; }
.tools { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; padding: 4px 12px 8px; }
.tools input { flex: 1; min-width: 100px; }
.tools label { display: contents; }
ol { flex: 1; min-height: 90px; overflow: auto; padding: 0 0 8px; border-top: 1px solid var(--line); list-style: none; }
li { display: grid; grid-template-columns: 9.5ch 8.5ch minmax(0, 1fr); gap: 8px; padding: 2px 12px; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
li time, li .who { color: var(--muted); }
li[data-what="closed"] b, li[data-what="reconnecting"] b { color: var(--bad); }
li[data-what="paused"] b { color: var(--warn); }
li[data-what="resumed"] b, li[data-what="open"] b { color: var(--good); }
li b { font-weight: 550; }
li span { overflow-wrap: anywhere; }
@media (max-width: 860px) {
  .panel { height: 64vh; }
  .columns { display: block; overflow: auto; }
  .column + .column { border-left: 0; border-top: 1px solid var(--line); }
  .column { overflow: visible; }
  ol { max-height: 40vh; }
  button, select, input { min-height: 36px; }
}
`;
