//===- PlaceHtml.cpp - A plan as a page -------------------------------------===//
//
// One file without outside references: the report as JSON, and a small script that draws it on canvases. The page
// computes nothing; every number in it is one of `moec place --json`.
//
//===----------------------------------------------------------------------===//

#include "tools/moec/PlaceReport.h"
#include "llvm/Support/FormatVariadic.h"

using namespace moec;

static const char *const kHead = R"html(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Expert placement</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.1em; margin: 2em 0 .3em; } p { margin: .3em 0; color: #555; }
table { border-collapse: collapse; } td, th { padding: .1em .8em; text-align: right; } th:first-child { text-align: left; }
canvas { border: 1px solid #ccc; image-rendering: pixelated; max-width: 100%; } .pair { display: flex; gap: 2em; flex-wrap: wrap; }
#tip { position: fixed; background: #222; color: #fff; padding: .1em .5em; display: none; pointer-events: none; }
</style>
</head>
<body>
<h1>Expert placement</h1>
<table id="summary"></table>
<p id="verdict"></p>
<div id="charts"></div>
<div id="tip"></div>
<script type="application/json" id="report">)html";

static const char *const kScript = R"html(</script>
<script>
"use strict";
const report = JSON.parse(document.getElementById("report").textContent);
const charts = document.getElementById("charts"), tip = document.getElementById("tip");
const ids = report.layers.map(row => row.layer);
const show = value => typeof value === "number" ? String(Math.round(value * 1e4) / 1e4) : String(value);

function section(title, text) {
  const box = document.createElement("div"), head = document.createElement("h2"), line = document.createElement("p");
  head.textContent = title;
  line.textContent = text;
  box.append(head, line);
  charts.append(box);
  return box;
}

// White to dark blue up to `most`.
function color(value, most) {
  const part = Math.max(0, Math.min(1, most > 0 ? value / most : 0));
  return `rgb(${255 - 235 * part},${255 - 200 * part},${255 - 95 * part})`;
}

// rows[y][x]; `name(y, x)` says what a cell is.
function heat(parent, title, rows, most, name) {
  const width = rows.length ? rows[0].length : 0;
  const cell = Math.max(2, Math.min(14, Math.floor(1000 / Math.max(width, 1))));
  const box = document.createElement("div"), line = document.createElement("p"), canvas = document.createElement("canvas");
  line.textContent = title;
  canvas.width = width * cell;
  canvas.height = rows.length * cell;
  const pen = canvas.getContext("2d");
  rows.forEach((row, y) => row.forEach((value, x) => {
    pen.fillStyle = color(value, most);
    pen.fillRect(x * cell, y * cell, cell, cell);
  }));
  canvas.onmousemove = event => {
    const area = canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - area.left) / area.width * width);
    const y = Math.floor((event.clientY - area.top) / area.height * rows.length);
    if (rows[y] === undefined || rows[y][x] === undefined) return;
    tip.textContent = `${name(y, x)}: ${show(rows[y][x])}`;
    tip.style.display = "block";
    tip.style.left = `${event.clientX + 12}px`;
    tip.style.top = `${event.clientY + 12}px`;
  };
  canvas.onmouseleave = () => { tip.style.display = "none"; };
  box.append(line, canvas);
  parent.append(box);
}

const largest = rows => rows.reduce((most, row) => row.reduce((a, b) => Math.max(a, b), most), 0);
const square = list => Array.from({length: report.ranks}, (_, y) => list.slice(y * report.ranks, (y + 1) * report.ranks));

const table = document.getElementById("summary");
function summary(name, value) {
  const row = table.insertRow(), head = document.createElement("th");
  head.textContent = name;
  row.append(head);
  row.insertCell().textContent = show(value);
}
for (const key of ["experts", "moe_layers", "ranks", "nodes", "slots", "redundant_slots", "most_replicas", "noise_floor",
                   "moves", "move_bytes", "step_seconds_before", "step_seconds_after", "migration_seconds",
                   "break_even_steps"]) {
  if (report[key] !== undefined) summary(key.replaceAll("_", " "), report[key]);
}
for (const [key, value] of Object.entries(report.balancedness)) summary(`balancedness ${key.replaceAll("_", " ")}`, value);
for (const [key, value] of Object.entries(report.remote_nodes || {})) summary(`remote nodes ${key}`, value);
document.getElementById("verdict").textContent = `Verdict: ${report.verdict}: ${report.reason}`;

heat(section("Load of experts", "A row is a layer, a column an expert; 1 is the mean expert. Profiles: " +
             report.profiles.join(", ")), "", report.expert_loads, Math.min(5, largest(report.expert_loads)),
     (y, x) => `layer ${ids[y]}, expert ${x}`);

const ranks = section("Load of ranks", "A row is a layer, a column a rank; 1 is the mean rank. Both on one scale.");
ranks.className = "pair";
const most = largest(report.rank_loads_before);
heat(ranks, "before", report.rank_loads_before, most, (y, x) => `layer ${ids[y]}, rank ${x}`);
heat(ranks, "after", report.rank_loads_after, most, (y, x) => `layer ${ids[y]}, rank ${x}`);

if (report.layers.some(row => row.window_distance !== undefined)) {
  heat(section("Stability over time", "How far the windows of a recording are from their sum (total variation, 0 to 1), by layer."),
       "", [report.layers.map(row => row.window_distance || 0)], 0.5, (y, x) => `layer ${ids[x]}`);
}

if (report.pairs.length) {
  const box = section("Experts chosen together", "Experts in the order of their first slot, so that company of a rank lies together.");
  const choice = document.createElement("select"), place = document.createElement("div");
  ids.forEach((id, index) => choice.add(new Option(`layer ${id}`, index)));
  const draw = () => {
    const index = Number(choice.value), order = [...new Set(report.placement[index])];
    const at = new Map(order.map((expert, position) => [expert, position]));
    const rows = order.map(() => order.map(() => 0));
    for (const [a, b, count] of report.pairs[index]) {
      rows[at.get(a)][at.get(b)] = rows[at.get(b)][at.get(a)] = count;
    }
    place.replaceChildren();
    heat(place, "", rows, largest(rows), (y, x) => `experts ${order[y]} and ${order[x]}`);
  };
  choice.onchange = draw;
  box.append(choice, place);
  draw();
}

const traffic = section("Traffic between ranks", "A row is the rank of the token, a column the rank of the expert: part of all " +
                        "assignments, when a token takes a replica on its rank, else on its node.");
traffic.className = "pair";
const before = square(report.rank_traffic_before), after = square(report.rank_traffic_after);
const peak = Math.max(largest(before), largest(after));
heat(traffic, "before", before, peak, (y, x) => `rank ${y} to ${x}`);
heat(traffic, "after", after, peak, (y, x) => `rank ${y} to ${x}`);
</script>
</body>
</html>
)html";

std::string moec::renderPlan(const llvm::json::Object &report) {
  const std::string text = llvm::formatv("{0}", llvm::json::Value(llvm::json::Object(report)));
  std::string page = kHead;
  // A name must not end the element that holds it.
  for (char c : text) {
    if (c == '<') {
      page += "\\u003c";
    } else {
      page += c;
    }
  }
  return page + kScript;
}
