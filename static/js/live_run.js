// Shows a run as it goes: asks for what is new since the last cursor, so that nothing is missed or doubled.
import { chart } from "./chart.js";

const EVERY = 1000;
const LONGEST = 15000;

export function startRun(root) {
  const part = (name) => root.querySelector(`[data-run-${name}]`);
  const charts = Object.fromEntries(
    [...root.querySelectorAll("[data-chart]")].map((figure) => [figure.dataset.chart, chart(figure)]),
  );
  const ended = root.dataset.terminal === "true";
  let cursor = 0;
  let pause = EVERY;

  const show = (news) => {
    part("status").textContent = news.status_title;
    part("stage").textContent = news.stage;
    const { done, total, rate } = news.progress;
    const bar = part("progress");
    if (news.terminal) bar.value = 1;
    else if (total) bar.value = done / total;
    part("count").textContent = total ? `${done} of ${total}${rate ? `, ${rate.toFixed(0)} a second` : ""}` : "";
    part("elapsed").textContent = clock(news.elapsed_seconds);
    part("remaining").textContent = news.remaining_seconds === null ? "–" : clock(news.remaining_seconds);
    news.points.forEach((point) => charts[point.name]?.add(point));
    Object.values(charts).forEach((one) => one.draw());
    news.log.forEach((line) => {
      const item = document.createElement("li");
      item.dataset.level = line.level;
      item.textContent = `${new Date(line.at).toLocaleTimeString()}  ${line.message}`;
      part("log").append(item);
    });
    part("trouble").hidden = true;
  };

  const ask = async () => {
    if (document.hidden) return void setTimeout(ask, EVERY);
    try {
      const answer = await fetch(`${root.dataset.eventsUrl}?after=${cursor}`);
      if (!answer.ok) throw new Error(String(answer.status));
      const news = await answer.json();
      const more = news.cursor !== cursor;
      cursor = news.cursor;
      pause = EVERY;
      show(news);
      if (news.terminal && !ended) return window.location.reload();
      if (ended && !more) return;
    } catch (error) {
      pause = Math.min(LONGEST, 2 * pause);
      part("trouble").textContent = "The server cannot be reached; trying again. The run goes on without this page.";
      part("trouble").hidden = false;
    }
    setTimeout(ask, ended ? 50 : pause);
  };
  ask();
}

function clock(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
