/** One HTML file with a generation and the player in it, which needs neither server nor network. */

// What the exported page runs, in an order in which each module comes after those that it imports.
const MODULES = ["util.js", "protocol.js", "timeline.js", "canvas.js", "heatmap.js", "inspector.js", "player.js", "stage.js", "exported.js"];
const STYLES = ["base.css", "stage.css"];

async function source(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`The page's own file ${name} cannot be read: is the server still running?`);
  return response.text();
}

/** The text of a whole page that plays `timeline`. */
export async function exportPage(timeline) {
  const [modules, styles] = await Promise.all([Promise.all(MODULES.map(source)), Promise.all(STYLES.map(source))]);
  const imports = Object.fromEntries(MODULES.map((name, i) => [name, dataUrl(modules[i])]));
  const title = `A generation by ${timeline.start.model ?? "DiffusionGemma"}`;
  return [
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">',
    `<title>${escaped(title)}</title>`,
    `<style>${styles.join("\n")}</style>`,
    `<script type="importmap">${json({ imports })}</script>`,
    '</head>\n<body>\n<main id="main" class="exported"></main>',
    `<script type="application/json" id="trace">${json(timeline.toTrace())}</script>`,
    '<script type="module">import "exported.js";</script>',
    "</body>\n</html>\n",
  ].join("\n");
}

/** A module as an address; modules at such addresses cannot import relatively, the import map names them instead. */
function dataUrl(code) {
  const renamed = code.replace(/(from\s+")\.\/([\w.-]+")/g, "$1$2");
  return `data:text/javascript;charset=utf-8,${encodeURIComponent(renamed)}`;
}

/** JSON that cannot end the script element it stands in, whatever the model wrote. */
function json(value) {
  return JSON.stringify(value).replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
