// Starts each behaviour on the elements that ask for it.
import { startDropzone, startUpload } from "./upload.js";
import { startPoll } from "./poll.js";
import { startRun } from "./live_run.js";
import { startTry } from "./try_model.js";
import { startMenu } from "./menu.js";
import { startCopy } from "./copy.js";
import { startCompare } from "./compare.js";
import { startStrategy } from "./strategy.js";
import { startEstimate } from "./estimate.js";
import { startSwap } from "./swap.js";
import { startDayChart } from "./day_chart.js";

document.querySelectorAll("form[data-upload]").forEach(startUpload);
document.querySelectorAll("[data-dropzone]").forEach(startDropzone);
document.querySelectorAll("[data-poll-url]").forEach(startPoll);
document.querySelectorAll("[data-live-run]").forEach(startRun);
document.querySelectorAll("[data-try]").forEach(startTry);
document.querySelectorAll("[data-menu]").forEach(startMenu);
document.querySelectorAll("[data-copy]").forEach(startCopy);
document.querySelectorAll("[data-compare]").forEach(startCompare);
document.querySelectorAll("[data-strategy-form]").forEach(startStrategy);
document.querySelectorAll("[data-estimate-form]").forEach(startEstimate);
document.querySelectorAll("[data-day-chart]").forEach(startDayChart);
startSwap();
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  document.querySelector("#site-search")?.focus();
});
