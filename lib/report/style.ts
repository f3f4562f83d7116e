/** Style sheet of the report: light and dark by the reader's setting, A4-friendly in print. */
export const styleSheet = `
:root {
  color-scheme: light dark;
  --text: #1f2933; --muted: #5f6b7a; --page: #f5f7f9; --card: #ffffff; --line: #dfe4e9;
  --accent: #0072b2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e4e8ec; --muted: #a3afbb; --page: #14181d; --card: #1d232a; --line: #333c46;
    --accent: #6cb8e6;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.55 Arimo, Arial, Helvetica, "Liberation Sans", sans-serif;
}
main { max-width: 1240px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 36px 0 12px; }
p { margin: 4px 0; }
.runs { margin: 0; padding: 0; list-style: none; color: var(--muted); }
.runs b { color: var(--text); }
.problems { margin: 8px 0 0; padding: 0; list-style: none; overflow-wrap: anywhere; }
a { color: var(--accent); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px; text-align: right; vertical-align: baseline; }
tbody tr + tr > *, thead + tbody tr > * { border-top: 1px solid var(--line); }
th:first-child, td.text { text-align: left; }
tbody th { font-weight: 400; }
thead th { font-weight: 700; overflow-wrap: anywhere; }
td { white-space: nowrap; }
td.wrap { white-space: normal; overflow-wrap: break-word; }
section p { max-width: 62rem; }
.scroll + .scroll, .scroll + .figures, p + .scroll, p + .figures { margin-top: 14px; }
td.text { white-space: normal; overflow-wrap: anywhere; }
small { color: var(--muted); font-size: 0.82em; margin-left: 6px; }
.figures { display: grid; gap: 20px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
figure {
  margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  overflow: hidden; display: flex; flex-direction: column; max-width: 640px;
}
.plot { background: #ffffff; padding: 4px; }
.plot svg { display: block; width: 100%; height: auto; }
figcaption { padding: 10px 16px 4px; font-size: 0.87rem; color: var(--muted); }
figure details { padding: 4px 16px 12px; font-size: 0.82rem; margin-top: auto; }
summary { cursor: pointer; color: var(--muted); }
pre { max-height: 22rem; overflow: auto; font-size: 0.75rem; white-space: pre-wrap; overflow-wrap: anywhere; }
@media print {
  :root { color-scheme: light; --text: #000; --muted: #444; --page: #fff; --card: #fff; --line: #bbb; }
  body { font-size: 10pt; }
  main { padding: 0; max-width: none; }
  .figures { grid-template-columns: 1fr 1fr; gap: 10px; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  details { display: none; }
}
`
