// Text and its entities as DOM nodes. Offsets are UTF-16 code units, as JavaScript's own.

import { h } from "./dom.js";

const TAGS = {
  bold: "strong", italic: "em", underline: "u", strikethrough: "s", code: "code", pre: "pre",
  blockquote: "blockquote", expandable_blockquote: "blockquote",
};

const BLOCKS = new Set(["pre", "blockquote", "expandable_blockquote"]);

export function safeUrl(text) {
  const candidate = /^[a-z][a-z0-9+.-]*:/i.test(text) ? text : `https://${text}`;
  try {
    const url = new URL(candidate);
    return ["http:", "https:", "mailto:", "tg:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

export function link(url, ...children) {
  const href = safeUrl(url);
  return href ? h("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...children) : h("span", {}, ...children);
}

// `onCommand(text)` is called when somebody clicks on a bot command.
export function formatted(text, entities = [], onCommand) {
  const ordered = [...entities].sort((a, b) => a.offset - b.offset || b.length - a.length);
  return build(text, ordered, 0, text.length, onCommand);
}

function build(text, entities, start, end, onCommand) {
  const nodes = [];
  let position = start;
  let rest = entities;
  while (rest.length) {
    const [entity, ...others] = rest;
    const from = Math.max(entity.offset, position);
    const to = Math.min(entity.offset + entity.length, end);
    const inner = others.filter((other) => other.offset < to);
    rest = others.filter((other) => other.offset >= to);
    if (to <= from) continue;
    if (from > position) nodes.push(text.slice(position, from));
    nodes.push(wrap(entity, text.slice(from, to), build(text, inner, from, to, onCommand), onCommand));
    position = to;
    // The line break after a block is already there.
    if (BLOCKS.has(entity.type) && text[to] === "\n") position += 1;
  }
  if (position < end) nodes.push(text.slice(position, end));
  return nodes;
}

function wrap(entity, text, children, onCommand) {
  switch (entity.type) {
    case "text_link": return link(entity.url, ...children);
    case "url": return link(text, ...children);
    case "email": return link(`mailto:${text}`, ...children);
    case "bot_command":
      return h("button", { type: "button", class: "command", onclick: () => onCommand?.(text) }, ...children);
    case "spoiler":
      return h("button", {
        type: "button", class: "spoiler", "aria-label": "Hidden text, press to show",
        onclick: (event) => { event.currentTarget.classList.add("shown"); event.currentTarget.removeAttribute("aria-label"); },
      }, h("span", {}, ...children));
    case "pre":
      return h("pre", { dataset: entity.language ? { language: entity.language } : {} }, h("code", {}, ...children));
    default:
      return h(TAGS[entity.type] ?? "span", TAGS[entity.type] ? {} : { class: "mention" }, ...children);
  }
}
