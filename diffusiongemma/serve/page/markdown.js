/** Markdown as elements, for answers that are done. Text of a model only ever becomes a text node. */

import { el } from "./util.js";

const INLINE = /(`+)(.+?)\1|\*\*(.+?)\*\*|__(.+?)__|\*([^\s*](?:.*?[^\s*])?)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/s;
const ITEM = /^(\s*)(?:[-*+]|(\d+)[.)])\s+(.*)$/;

/** The blocks of a text, one element each. */
export function markdown(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const blocks = [];
  while (lines.length) {
    const block = fence(lines) ?? heading(lines) ?? list(lines) ?? quote(lines) ?? table(lines) ?? paragraph(lines);
    if (block) blocks.push(block);
  }
  return blocks;
}

function fence(lines) {
  const mark = /^\s*(```+|~~~+)\s*(\S*)/.exec(lines[0]);
  if (!mark) return null;
  lines.shift();
  const code = [];
  while (lines.length && !lines[0].trim().startsWith(mark[1])) code.push(lines.shift());
  lines.shift();
  return el("pre", { class: "block-code", tabindex: 0, "aria-label": mark[2] ? `Code, ${mark[2]}` : "Code" }, el("code", {}, code.join("\n")));
}

function heading(lines) {
  const found = /^(#{1,6})\s+(.*)$/.exec(lines[0]);
  if (!found) return null;
  lines.shift();
  return el("p", { class: `heading level-${found[1].length}`, role: "heading", "aria-level": Math.min(6, found[1].length + 2) }, inline(found[2]));
}

function list(lines) {
  const first = ITEM.exec(lines[0]);
  if (!first) return null;
  const items = [];
  while (lines.length) {
    const item = ITEM.exec(lines[0]);
    if (item && Boolean(item[2]) === Boolean(first[2])) items.push([item[3]]);
    else if (/^\s{2,}\S/.test(lines[0]) && items.length) items.at(-1).push(lines[0].trim());
    else break;
    lines.shift();
  }
  const rows = items.map((parts) => el("li", {}, inline(parts.join("\n"))));
  return first[2] ? el("ol", { class: "listed", start: first[2] }, rows) : el("ul", { class: "listed" }, rows);
}

function quote(lines) {
  if (!/^\s*>/.test(lines[0])) return null;
  const inner = [];
  while (lines.length && /^\s*>/.test(lines[0])) inner.push(lines.shift().replace(/^\s*>\s?/, ""));
  return el("blockquote", {}, markdown(inner.join("\n")));
}

function table(lines) {
  if (!lines[0].includes("|") || !/^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[1] ?? "") || !lines[1].includes("|")) return null;
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => inline(cell.trim()));
  const head = cells(lines.shift());
  lines.shift();
  const rows = [];
  while (lines.length && lines[0].includes("|")) rows.push(cells(lines.shift()));
  const row = (kind, list) => el("tr", {}, list.map((cell) => el(kind, {}, cell)));
  return el("div", { class: "scrolled", tabindex: 0, role: "region", "aria-label": "Table" }, el("table", {}, el("thead", {}, row("th", head)), el("tbody", {}, rows.map((one) => row("td", one)))));
}

function paragraph(lines) {
  const inner = [];
  while (lines.length && lines[0].trim() && !/^\s*(```|~~~|#{1,6}\s|>)/.test(lines[0]) && !(inner.length && ITEM.test(lines[0]))) inner.push(lines.shift());
  if (!inner.length) {
    const line = lines.shift();
    return line.trim() ? el("p", {}, inline(line)) : null;
  }
  return el("p", {}, inline(inner.join("\n")));
}

/** Text with emphasis, code and links; a line break stays one. */
function inline(text) {
  const found = INLINE.exec(text);
  if (!found) return broken(text);
  const [whole, , code, bold, strong, italic, label, address] = found;
  const made = code !== undefined ? el("code", {}, code)
    : (bold ?? strong) !== undefined ? el("strong", {}, inline(bold ?? strong))
    : italic !== undefined ? el("em", {}, inline(italic))
    : el("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, label);
  return [...broken(text.slice(0, found.index)), made, ...inline(text.slice(found.index + whole.length))];
}

function broken(text) {
  return text.split("\n").flatMap((line, i) => (i ? [el("br"), line] : [line])).filter((part) => part !== "");
}
