"""How a page of results looks: one style sheet for any width, bright and dark, in colors that everybody tells apart.

Blue means right and orange means wrong, from the palette of Okabe and Ito; shape, place or words always say the same as
the color. No fonts, scripts or pictures from elsewhere.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #1c2430; --quiet: #56606d; --line: #e3e0d8; --track: #ece9e1;
  --right: #0072b2; --wrong: #d55e00; --right-text: #00578a; --wrong-text: #9c4200; --most: 54%;
  --note: #fff3e0; --note-line: #d55e00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161c; --card: #1a2029; --ink: #e9edf2; --quiet: #a3adba; --line: #2c343f; --track: #2a323d;
    --right: #4aa8e0; --wrong: #f0883e; --right-text: #7cc4f0; --wrong-text: #f5a36a; --most: 42%;
    --note: #33230f; --note-line: #f0883e;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 400 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; hanging-punctuation: first; text-wrap: pretty;
}
main, header, footer { max-width: 66rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem); }
header { padding-top: clamp(1.75rem, 5vw, 3.5rem); }
.eyebrow { margin: 0; color: var(--quiet); font-size: .75rem; font-weight: 600; letter-spacing: .09em;
  text-transform: uppercase; }
h1 { margin: .3rem 0 0; font-size: clamp(1.5rem, 1.1rem + 2vw, 2.4rem); line-height: 1.15; font-weight: 680;
  letter-spacing: -.02em; text-wrap: balance; }
h1 span { color: var(--quiet); font-weight: 400; }
.facts { margin: .7rem 0 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.1rem;
  color: var(--quiet); font-size: .875rem; }
.lead { max-width: 44rem; margin: 1.4rem 0 0; font-size: 1.0625rem; }
h2 { margin: 0 0 .25rem; font-size: 1.2rem; line-height: 1.3; font-weight: 650; letter-spacing: -.01em; }
h2 + p { margin-top: 0; }
h2.second { margin-top: 1.8rem; } h2 + .card { margin-top: .6rem; }
section { margin: 2.75rem 0 0; }
.say { max-width: 44rem; margin: 0 0 1rem; color: var(--quiet); font-size: .9375rem; }
.note { margin: 1.5rem 0 0; padding: .8rem 1.1rem; border-left: 4px solid var(--note-line); border-radius: 4px;
  background: var(--note); }
.note strong { display: block; }
.note p { margin: 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: clamp(1rem, 3vw, 1.5rem); }
.figures { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(12rem, 45%), 1fr)); }
.figure { margin: 0; padding: clamp(.8rem, 3vw, 1.1rem) clamp(.85rem, 3vw, 1.2rem); }
.figure dt { color: var(--quiet); font-size: .875rem; }
.figure dd { margin: 0; }
.figure .value { font-size: 2.3rem; line-height: 1.15; font-weight: 660; letter-spacing: -.03em; }
.figure .value small { font-size: 1.2rem; font-weight: 500; letter-spacing: 0; color: var(--quiet); }
.figure .range { color: var(--quiet); font-size: .8125rem; }
.scale { position: relative; display: block; height: 14px; margin: .5rem 0 .45rem; }
.scale::before { content: ""; position: absolute; inset: 5px 0; border-radius: 2px; background: var(--track); }
.scale i { position: absolute; top: 3px; bottom: 3px; left: calc(var(--from) * 100%);
  width: calc((var(--to) - var(--from)) * 100%); min-width: 3px; border-radius: 4px;
  background: color-mix(in oklab, var(--right) 45%, transparent); }
.scale b { position: absolute; top: 0; bottom: 0; left: calc(var(--at) * 100% - 2px); width: 4px; border-radius: 2px;
  background: var(--right); }
.scale u { position: absolute; top: 0; bottom: 0; left: calc(var(--at) * 100% - 1px);
  border-left: 2px dotted var(--quiet); }
.columns { display: grid; gap: 2rem; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr));
  align-items: start; }
.columns > * { min-width: 0; }
svg { display: block; width: 100%; height: auto; max-width: 30rem; font: inherit; }
svg text { fill: var(--quiet); font-size: 12px; }
.scroll { overflow-x: auto; margin: 0 -.25rem; padding: .25rem; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--right); outline-offset: 2px;
  border-radius: 4px; }
table { border-collapse: collapse; font-size: .875rem; }
caption { text-align: left; color: var(--quiet); font-size: .8125rem; padding-bottom: .4rem; }
th { font-weight: 500; text-align: left; }
.plain { width: 100%; }
.plain td, .plain th { padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.plain thead th { color: var(--quiet); font-size: .8125rem; vertical-align: bottom; }
.plain .number { text-align: right; white-space: nowrap; }
.plain tr > :last-child { padding-right: 0; }
.plain small { display: block; color: var(--quiet); font-size: .8125rem; line-height: 1.4; }
.confusion { border-collapse: separate; border-spacing: 2px; }
.confusion thead th { vertical-align: bottom; padding: 0 0 .3rem; }
.confusion thead th span { display: block; margin: 0 auto; max-height: 9.5rem; overflow: hidden; white-space: nowrap;
  writing-mode: vertical-rl; transform: rotate(180deg); text-overflow: ellipsis; color: var(--quiet); }
.confusion.few thead th span { writing-mode: horizontal-tb; transform: none; text-align: center; max-width: 8rem; }
.confusion tbody th { max-width: 11rem; padding-right: .6rem; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; text-align: right; position: sticky; left: 0; z-index: 1; background: var(--card); }
.confusion td { min-width: 2.15rem; height: 2.15rem; padding: 0 .2rem; text-align: center; border-radius: 4px;
  background: color-mix(in oklab, var(--wrong) calc(9% + var(--s, 0) * var(--most)), var(--card)); }
.confusion.few td { min-width: 5.5rem; height: 3.6rem; font-size: 1.0625rem; }
.confusion thead td { background: none; }
.confusion td.none { background: var(--track); opacity: .55; }
.confusion td.hit { background: color-mix(in oklab, var(--right) calc(9% + var(--s, 0) * var(--most)), var(--card));
  outline: 1.5px solid var(--right); outline-offset: -1.5px; font-weight: 650; }
.confusion td small { display: block; font-size: .75rem; font-weight: 400; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .9rem 0 0; padding: 0; list-style: none;
  color: var(--quiet); font-size: .8125rem; }
.legend i { display: inline-block; width: .85em; height: .85em; margin-right: .45em; border-radius: 3px;
  vertical-align: -.08em; }
.legend .hit { border: 2px solid var(--right); background: color-mix(in oklab, var(--right) var(--most), var(--card)); }
.legend .miss { background: color-mix(in oklab, var(--wrong) var(--most), var(--card)); }
.bar { position: relative; display: block; min-width: 6rem; height: .75rem; margin-top: .35rem; border-radius: 3px;
  background: var(--track); }
.bar i { position: absolute; inset: 0 auto 0 0; width: calc(var(--at) * 100%); border-radius: 3px;
  background: var(--right); }
.bar.miss i { background: var(--wrong); }
.bar b { position: absolute; top: calc(50% - 1px); height: 2px; left: calc(var(--from) * 100%);
  width: calc((var(--to) - var(--from)) * 100%); background: var(--ink); opacity: .75; }
.classes .name { width: 34%; }
.gallery { display: grid; gap: 1rem .9rem; grid-template-columns: repeat(auto-fill, minmax(min(10.5rem, 46%), 1fr)); }
.gallery figure { margin: 0; min-width: 0; }
.gallery picture, .gallery .blank { display: grid; place-items: center; position: relative; aspect-ratio: 4 / 3;
  border-radius: 8px; overflow: hidden; background: var(--track); color: var(--quiet); font-size: .8125rem; }
.gallery img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }
figcaption { margin-top: .45rem; font-size: .875rem; line-height: 1.35; }
figcaption b { color: var(--wrong-text); font-weight: 600; }
figcaption em { font-style: normal; color: var(--right-text); font-weight: 600; }
figcaption small { display: block; margin-top: .15rem; color: var(--quiet); font-size: .75rem; }
details { margin-top: .9rem; }
summary { cursor: pointer; color: var(--quiet); font-size: .875rem; }
details[open] > summary { margin-bottom: .6rem; }
.origin { display: grid; grid-template-columns: minmax(7rem, auto) 1fr; gap: .25rem 1.2rem; margin: 0;
  font-size: .875rem; }
.origin dt { color: var(--quiet); }
.origin dd { margin: 0; min-width: 0; }
footer { margin-top: 3.5rem; padding-top: 1rem; padding-bottom: 3rem; color: var(--quiet); font-size: .8125rem; }
footer p { max-width: 46rem; margin: 0 0 .5rem; }
@media (max-width: 34rem) {
  .wide { display: none; }
  .bar { min-width: 4rem; }
  .classes .name { width: auto; }
}
@media print { .card { break-inside: avoid; } details { display: none; } }
"""
