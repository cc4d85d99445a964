"use strict";
// What the page's scripts share. Nothing here asks for anything from elsewhere.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const content = name => JSON.parse($(`#data-${name}`).textContent);

// An element with attributes, properties (`on...`) and children; texts are never read as HTML.
function make(tag, attributes = {}, ...children) {
  const element = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined));
  return element;
}

const unique = values => [...new Set(values)];
const protocolName = name =>
  name === "all" ? "whole test set" : name.startsWith("fold") ? `mean of ${name.slice(4)} folds`
    : ["first", "seen", "unseen"].includes(name) ? `${name} classes` : name;

const DASH = "–";
const format = (value, digits = 1) =>
  value === null || value === undefined || Number.isNaN(value)
    ? DASH
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
const mean = values => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
function deviation(values) {
  if (values.length < 2) return null;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}
const spoken = text => text.replaceAll("-to-", " to ");
const words = text => text.toLowerCase().split(/\s+/).filter(Boolean);

// A labelled list of choices, each of [value, text].
function choice(label, options, chosen, changed) {
  const select = make("select", { onchange: () => changed(select.value) });
  for (const [value, text] of options) select.append(make("option", { value, selected: value === chosen }, text));
  return make("label", { class: "field" }, make("span", {}, label), select);
}

// Runs `step` when `element` comes near the window, and at once where that cannot be known.
function whenNear(element, step) {
  if (!("IntersectionObserver" in window)) return step();
  const observer = new IntersectionObserver(entries => {
    if (entries.some(entry => entry.isIntersecting)) {
      observer.disconnect();
      step();
    }
  }, { rootMargin: "600px" });
  observer.observe(element);
}

(function theme() {
  const button = $("#theme");
  if (!button) return;
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show the page in ${dark() ? "light" : "dark"} colours`);
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  name();
})();
