// What the service did for a chat, step by step, with the time between the steps.

import { clockTime, h } from "./dom.js";

export function elapsed(seconds) {
  const ms = Math.round(seconds * 1000);
  return ms < 10_000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

const AT_REST = ["asleep", "stopped", "archived"];

// A message is a story, and so is each way to rest and each wake from it: nobody waited for the time between them.
function begins(stage, before) {
  if (before === undefined || stage === "received" || stage === "sleeping") return true;
  return AT_REST.includes(before) || (AT_REST.includes(stage) && before !== "sleeping");
}

function stories(entries) {
  const ordered = [...entries].sort((a, b) => a.at - b.at);
  const groups = [];
  let before;
  for (const entry of ordered) {
    const stage = entry.stage.toLowerCase();
    if (begins(stage, before)) groups.push([]);
    groups.at(-1).push(entry);
    before = stage;
  }
  return groups;
}

function detail(value) {
  if (value === null || value === undefined || value === "") return null;
  return h("span", { class: "detail" }, typeof value === "string" ? value : JSON.stringify(value));
}

function story(entries) {
  const first = entries[0].at;
  const total = entries.at(-1).at - first;
  return h("li", { class: "story" },
    h("p", { class: "story-head" }, h("time", {}, clockTime(first)), h("b", {}, elapsed(total))),
    h("ol", {}, entries.map((entry, index) => {
      const step = index ? entry.at - entries[index - 1].at : 0;
      const share = h("span", { class: "share", "aria-hidden": "true" });
      share.style.setProperty("--share", String(total > 0 ? Math.max(0.02, step / total) : 0.02));
      return h("li", {}, h("span", { class: "step" }, h("b", {}, entry.stage), detail(entry.detail)),
        h("span", { class: "took" }, index ? `+${elapsed(step)}` : "start"), share);
    })));
}

export function renderTimeline(list, entries) {
  list.replaceChildren(...stories(entries).map(story));
  list.scrollTop = list.scrollHeight;
}
