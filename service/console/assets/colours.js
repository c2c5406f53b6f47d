// Ramps from 0 to 1: blues for age, new to old; warm colours for errors, small to large.

const AGE = {
  light: ["#08296b", "#2a6cc2", "#6f9fd2", "#8f9fb0"],
  dark: ["#d6ecff", "#73b5f2", "#3f78b3", "#43536a"],
};
const ERROR = {
  light: ["#fffdf0", "#fee2a0", "#f98f52", "#b0143f"],
  dark: ["#1b2027", "#5c4423", "#bf5a2c", "#ff4d6d"],
};
const STEPS = 32;

const dark = matchMedia("(prefers-color-scheme: dark)");

export function ageRamp() {
  return ramp(dark.matches ? AGE.dark : AGE.light);
}

export function errorRamp() {
  return ramp(dark.matches ? ERROR.dark : ERROR.light);
}

export function onThemeChange(listener) {
  dark.addEventListener("change", listener);
}

// STEPS colours as [red, green, blue].
function ramp(stops) {
  const colours = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  return Array.from({ length: STEPS }, (_, step) => {
    const place = (step / (STEPS - 1)) * (colours.length - 1);
    const below = Math.min(Math.floor(place), colours.length - 2);
    return colours[below].map((from, i) => Math.round(from + (place - below) * (colours[below + 1][i] - from)));
  });
}

// The step that a share of the ramp falls on.
export function stepOf(share) {
  return Math.max(0, Math.min(STEPS - 1, Math.round(share * (STEPS - 1))));
}

export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

export function gradient(colours) {
  return `linear-gradient(to right, ${colours.map(css).join(", ")})`;
}
