// Shows a run as it goes: asks for what is new since the last cursor, so that nothing is missed or doubled.
import { chart } from "./chart.js";

const EVERY = 1000;
const LONGEST = 15000;
const CATCHING_UP = 50;

export function startRun(root) {
  const part = (name) => root.querySelector(`[data-run-${name}]`);
  const charts = Object.fromEntries(
    [...root.querySelectorAll("[data-chart]")].map((figure) => [figure.dataset.chart, chart(figure)]),
  );
  const ended = root.dataset.terminal === "true";
  const title = document.title.replace(/^[^:]*: /, "");
  let cursor = 0;
  let pause = EVERY;

  const show = (news) => {
    news.points.forEach((point) => charts[point.name]?.add(point));
    Object.values(charts).forEach((one) => one.draw());
    news.log.forEach((line) => part("log").append(entry(line)));
    part("trouble").hidden = true;
    if (ended) return;
    const { done, total, rate } = news.progress;
    // The page's buttons follow the state: they are the server's to draw.
    if ((news.status === "paused") !== (root.dataset.status === "paused")) return window.location.reload();
    root.dataset.status = news.status;
    if (part("status").textContent !== news.status_title) part("status").textContent = news.status_title;
    part("stage").textContent = news.stage;
    part("progress").value = total ? done / total : 0;
    part("count").textContent = total ? `${done} of ${total}${rate ? `, ${rate.toFixed(0)} a second` : ""}` : "";
    part("elapsed").textContent = clock(news.elapsed_seconds);
    part("remaining").textContent = news.remaining_seconds === null ? "–" : clock(news.remaining_seconds);
    document.title = `${news.status_title}${total ? ` ${Math.round((100 * done) / total)}%` : ""}: ${title}`;
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
    } catch {
      pause = Math.min(LONGEST, 2 * pause);
      part("trouble").textContent = "The server cannot be reached; trying again. The run goes on without this page.";
      part("trouble").hidden = false;
    }
    setTimeout(ask, ended ? CATCHING_UP : pause);
  };
  ask();
}

function entry(line) {
  const item = document.createElement("li");
  item.dataset.level = line.level;
  const time = document.createElement("time");
  time.dateTime = line.at;
  time.textContent = new Date(line.at).toLocaleTimeString();
  const level = document.createElement("span");
  level.className = "log-level";
  level.textContent = line.level;
  const text = document.createElement("span");
  text.className = "log-text";
  text.textContent = line.message;
  item.append(time, level, text);
  return item;
}

function clock(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
