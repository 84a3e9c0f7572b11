// The few things that a page does in the browser: its theme, refreshing, copying, and selecting all rows.
"use strict";

const SECONDS = 3;
const root = document.documentElement;

// ---- the theme: the system's, unless the user chose one
const THEMES = ["auto", "light", "dark"];
const chosenTheme = () => (THEMES.includes(localStorage.relayqTheme) ? localStorage.relayqTheme : "auto");
const showTheme = () => {
  root.dataset.theme = chosenTheme();
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[chosenTheme()];
    button.setAttribute("aria-label", `Theme: ${button.textContent}. Change it`);
  }
};
showTheme();

// ---- refreshing: only while the page is visible and its data can change, for at most a tenth of the time
let timer = null;
let requestedAt = 0;
const isWatched = () => !document.hidden && document.querySelector("[data-live]:not(:has([data-rest]))");
const plan = (milliseconds) => {
  clearTimeout(timer);
  timer = isWatched() ? setTimeout(refresh, milliseconds) : null;
};
const refresh = () => {
  plan(60 * 1000); // in case no response arrives
  document.body.dispatchEvent(new Event("refresh"));
};
document.addEventListener("htmx:beforeRequest", () => (requestedAt = performance.now()));
document.addEventListener("htmx:afterRequest", () => plan(Math.max(SECONDS * 1000, 10 * (performance.now() - requestedAt))));
document.addEventListener("visibilitychange", () => (isWatched() ? refresh() : plan(0)));

document.addEventListener("DOMContentLoaded", () => {
  showTheme();
  plan(SECONDS * 1000);
  for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
});

document.addEventListener("click", async (event) => {
  if (event.target.closest("[data-theme-toggle]")) {
    localStorage.relayqTheme = THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length];
    showTheme();
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(document.getElementById(copy.dataset.copy).textContent.trim());
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  }
});

// ---- bulk actions: if a step fails or its response is not a page, say so and offer to continue
for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, (event) => {
    const action = event.target.closest("#bulk-action");
    for (const element of action?.querySelectorAll("[data-no-answer]") ?? []) element.hidden = false;
    for (const element of action?.querySelectorAll("[data-under-way]") ?? []) element.hidden = true;
  });
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) {
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  }
  if (event.target.matches("[data-goes]")) event.target.form.requestSubmit();
});
