/**
 * Whether a text keeps to a JSON Schema or a regular expression: a marker beside the drafts, not the guarantee itself,
 * which the server's decoding gives. Covers the keywords below; what it does not know it takes as kept.
 */

/** `""` when the text matches, else the reason in a few words. */
export function problemOf(text, structure) {
  if (structure.regex !== undefined) return matches(text, structure.regex) ? "" : "does not match the expression";
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return "not a JSON text yet";
  }
  return schemaProblem(value, structure.schema, structure.schema);
}

function matches(text, regex) {
  return new RegExp(`^(?:${regex})$`, "su").test(text);
}

const TYPES = {
  null: (value) => value === null,
  boolean: (value) => typeof value === "boolean",
  number: (value) => typeof value === "number",
  integer: (value) => Number.isInteger(value),
  string: (value) => typeof value === "string",
  array: Array.isArray,
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
};

function schemaProblem(value, schema, root, path = "the value") {
  if (schema === true || schema === undefined) return "";
  if (schema === false) return `${path} is not allowed`;
  if (schema.$ref) return schemaProblem(value, resolve(schema.$ref, root), root, path);
  return typeProblem(value, schema, path) || rangeProblem(value, schema, path) || unionProblem(value, schema, root, path) || partsProblem(value, schema, root, path);
}

function resolve(reference, root) {
  if (!reference.startsWith("#")) return true;
  const steps = reference.slice(1).split("/").filter(Boolean);
  return steps.reduce((at, step) => at?.[step.replaceAll("~1", "/").replaceAll("~0", "~")], root) ?? true;
}

function typeProblem(value, { type, enum: allowed, const: only }, path) {
  const types = type === undefined ? [] : [type].flat();
  if (types.length && !types.some((name) => TYPES[name]?.(value))) return `${path} is not of type ${types.join(" or ")}`;
  const same = (other) => JSON.stringify(other) === JSON.stringify(value);
  if (allowed && !allowed.some(same)) return `${path} is none of the listed values`;
  return only !== undefined && !same(only) ? `${path} is not the required value` : "";
}

function rangeProblem(value, schema, path) {
  const size = typeof value === "string" ? Array.from(value).length : Array.isArray(value) ? value.length : value;
  const [least, most] = { string: ["minLength", "maxLength"], number: ["minimum", "maximum"] }[typeof value] ?? ["minItems", "maxItems"];
  if (schema[least] !== undefined && size < schema[least]) return `${path} is under its ${least}`;
  if (schema[most] !== undefined && size > schema[most]) return `${path} is over its ${most}`;
  if (typeof value === "string" && schema.pattern && !new RegExp(schema.pattern, "u").test(value)) return `${path} does not match its pattern`;
  return "";
}

function unionProblem(value, { anyOf, oneOf, allOf }, root, path) {
  const problems = (list) => list.map((one) => schemaProblem(value, one, root, path));
  const any = anyOf ?? oneOf;
  if (any && !problems(any).includes("")) return `${path} fits no alternative`;
  return allOf ? problems(allOf).find(Boolean) ?? "" : "";
}

function partsProblem(value, schema, root, path) {
  if (Array.isArray(value)) return first(value, (item, i) => schemaProblem(item, schema.prefixItems?.[i] ?? schema.items, root, `item ${i + 1}`));
  if (!TYPES.object(value)) return "";
  const missing = (schema.required ?? []).find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return `“${missing}” is missing`;
  const known = schema.properties ?? {};
  return first(Object.keys(value), (name) => schemaProblem(value[name], Object.hasOwn(known, name) ? known[name] : schema.additionalProperties, root, `“${name}”`));
}

function first(list, problem) {
  for (const [i, item] of list.entries()) {
    const found = problem(item, i);
    if (found) return found;
  }
  return "";
}
