// SPDX-License-Identifier: MIT
#include "tools/history/report_page.h"

namespace history {

std::string html(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

const std::string_view kPageStyle = R"css(
:root { color-scheme: light dark; --grey: #777; --line: #ccc; --back: #fff; --text: #1a1a1a;
  --new: #17682b; --gone: #b3261e; --moment: #c05a00; --mark: #fff3e0; --tick: #2a5db0; }
@media (prefers-color-scheme: dark) { :root { --grey: #999; --line: #444; --back: #16181c;
  --text: #e4e4e4; --new: #7fd28f; --gone: #ff8a80; --moment: #ffb060; --mark: #3a2c18;
  --tick: #8ab4f8; } }
body { font: 14px/1.4 system-ui, sans-serif; margin: 0 auto; max-width: 90em; padding: 1em;
  background: var(--back); color: var(--text); }
h1 { font-size: 1.5em; margin: 0 0 .5em; } h2 { font-size: 1.15em; margin: 1.5em 0 .4em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15em 1em; margin: 0; }
dt { color: var(--grey); } dd { margin: 0; overflow-wrap: anywhere; }
code, td, .lanes text { font-family: ui-monospace, monospace; font-size: 12px; }
.lanes { width: 100%; display: block; margin: .2em 0 .8em; } .lanes text { fill: var(--text); }
.lanes .rule { stroke: var(--line); } .lanes .moment { stroke: var(--moment); stroke-width: 1.5; }
.lanes rect { fill: var(--tick); } .lanes .lane { cursor: pointer; }
.lanes .lane:hover text, .lanes .chosen text { font-weight: bold; text-decoration: underline; }
#bar { position: sticky; top: 0; background: var(--back); border-bottom: 1px solid var(--line);
  padding: .5em 0; display: flex; gap: 1em; align-items: center; flex-wrap: wrap; z-index: 1; }
#search { font: inherit; padding: .3em .5em; width: 26em; max-width: 100%; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th { text-align: left; color: var(--grey); font-weight: normal; }
th, td { padding: .25em .6em .25em 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
#commits th:nth-child(1) { width: 17.5em; } #commits th:nth-child(2) { width: 14em; }
#nodes th:nth-child(1) { width: 38%; }
tr.moment td { background: var(--mark); } tr:target td { outline: 1px solid var(--moment); }
.new { color: var(--new); } .gone { color: var(--gone); } .note, .perms { color: var(--grey); }
[hidden] { display: none; }
)css";

const std::string_view kPageScript = R"js(
"use strict";
const commits = [...document.querySelectorAll("#commits tbody tr")];
const nodes = [...document.querySelectorAll("#nodes tbody tr")];
const lanes = [...document.querySelectorAll(".lane")];
const search = document.getElementById("search");
const only = document.getElementById("only");
const texts = new Map([...commits, ...nodes].map(row => [row, row.textContent.toLowerCase()]));
let lane = null;

function show(rows, isShown) {
  let count = 0;
  for (const row of rows) {
    row.hidden = !isShown(row);
    if (!row.hidden) ++count;
  }
  return count;
}

function apply() {
  const words = search.value.toLowerCase().split(/\s+/).filter(word => word !== "");
  const hasWords = row => words.every(word => texts.get(row).includes(word));
  const isInLane = row => lane === null ||
      row.dataset[lane.dataset.kind].split(" ").includes(lane.dataset.lane);
  const shown = show(commits, row => hasWords(row) && isInLane(row));
  const differing = show(nodes, row => hasWords(row) && !(only.checked && row.className === "same"));
  document.getElementById("count").textContent =
      shown + " of " + commits.length + " commits, " + differing + " of " + nodes.length + " nodes";
  for (const one of lanes) one.classList.toggle("chosen", one === lane);
  document.getElementById("chosen").textContent =
      lane === null ? "" : "only " + lane.dataset.name + " (click again for all)";
}

search.addEventListener("input", apply);
only.addEventListener("change", apply);
for (const one of lanes) {
  const choose = () => { lane = lane === one ? null : one; apply(); };
  one.addEventListener("click", choose);
  one.addEventListener("keydown", event => { if (event.key === "Enter") choose(); });
}
// For a link to what was found.
if (location.hash.startsWith("#search=")) search.value = decodeURIComponent(location.hash.slice(8));
document.getElementById("bar").hidden = false;
apply();
)js";

}  // namespace history
