// Numbers, lengths and times as text.

const AGES = [[31_557_600, "y"], [2_629_800, "mo"], [86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export function count(number) {
  return number.toLocaleString("en");
}

export function metres(value) {
  if (value >= 1000) return `${short(value / 1000, 3)} km`;
  return value >= 10 ? `${value.toFixed(0)} m` : `${value.toFixed(value >= 1 ? 1 : 2)} m`;
}

export function span(seconds) {
  const [unit, name] = AGES.find(([unit]) => seconds >= unit) ?? AGES.at(-1);
  return `${Math.max(0, Math.floor(seconds / unit))} ${name}`;
}

export function ago(seconds) {
  return seconds < 1 ? "now" : `${span(seconds)} ago`;
}

export function duration(seconds) {
  if (seconds < 0.001) return `${short(seconds * 1e6, 2)} µs`;
  return seconds < 1 ? `${short(seconds * 1000, 2)} ms` : `${short(seconds, 2)} s`;
}

// So many significant digits, never an exponent.
export function short(value, digits) {
  return String(Number(value.toPrecision(digits)));
}

export function clock(text) {
  return new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}
