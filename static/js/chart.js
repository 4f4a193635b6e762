// One line chart with a curve for validation and one for training, and the same numbers as a table.
const SPLITS = ["validation", "train"];
const HEIGHT = 240;
const SMALL_STEP = 1e-4; // between two ticks: below it their decimals would not fit beside the axis

// Ticks with as many decimals as tell them apart; uPlot's own stop at the third, where every learning rate is 0.
const written = (ticks, step) => {
  const decimals = (Number(step.toPrecision(2)).toString().split(".")[1] ?? "").length;
  const short = (tick) => tick.toExponential(2).replace(/\.?0+e/, "e");
  return ticks.map((tick) => (step >= SMALL_STEP ? tick.toFixed(decimals) : tick === 0 ? "0" : short(tick)));
};

// No score is over 1, and its axis no further than a point there needs: around a single one uPlot's goes to twice its value.
const SCORE_END = 1.02;
const NO_SCORES = new Set(["loss", "learning_rate"]);
const range = (name) => (_plot, low, high) => {
  const end = { pad: 0.1, soft: 0, mode: 3 };
  return low === null ? [0, 1] : window.uPlot.rangeNum(low, high, { min: end, max: NO_SCORES.has(name.replace(/^probe_/, "")) ? end : { ...end, hard: SCORE_END } });
};

export function chart(figure) {
  const points = { validation: new Map(), train: new Map() };
  const canvas = figure.querySelector(".chart-canvas");
  const body = figure.querySelector("tbody");
  let plot = null;
  let changed = false;

  const color = (name) => getComputedStyle(figure).getPropertyValue(name).trim();
  const steps = () => [...new Set(SPLITS.flatMap((split) => [...points[split].keys()]))].sort((a, b) => a - b);
  const data = () => [steps(), ...SPLITS.map((split) => steps().map((step) => points[split].get(step) ?? null))];
  const legend = (at) => {
    SPLITS.forEach((split, position) => {
      const values = plot.data[position + 1];
      const span = figure.querySelector(`[data-split=${split}]`);
      span.hidden = values.every((one) => one === null);
      const value = at === null ? values.findLast((one) => one !== null) : values[at];
      span.querySelector("b").textContent = value?.toPrecision(3) ?? "–";
    });
  };
  const build = () => {
    const axis = { stroke: color("--ink-soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
    const line = (stroke, dash) => ({ stroke, width: 2, spanGaps: true, dash, points: { size: 5 } });
    return new window.uPlot(
      {
        width: canvas.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        scales: { x: { time: false }, y: { range: range(figure.dataset.chart) } },
        axes: [{ ...axis, size: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, { ...axis, size: 66, values: (_plot, ticks, _axis, _space, step) => written(ticks, step) }],
        series: [{}, line(color("--series-1")), line(color("--series-2"), [6, 4])],
        hooks: { setCursor: [(self) => self.data && plot && legend(self.cursor.idx ?? null)] },
      },
      data(),
      canvas,
    );
  };
  const rebuild = () => {
    plot?.destroy();
    plot = build();
    legend(null);
  };
  const tabulate = () => {
    const cell = (value) => {
      const td = document.createElement("td");
      td.className = "num";
      td.textContent = value?.toPrecision(4) ?? "–";
      return td;
    };
    body.replaceChildren(
      ...steps().map((step) => {
        const row = document.createElement("tr");
        row.insertCell().textContent = step;
        row.append(...SPLITS.map((split) => cell(points[split].get(step))));
        return row;
      }),
    );
  };
  new ResizeObserver(() => plot && plot.setSize({ width: canvas.clientWidth, height: HEIGHT })).observe(canvas);
  document.addEventListener("themechange", () => plot && rebuild());

  return {
    add(point) {
      const series = points[point.split];
      if (!series) return;
      // A step that comes again opens a new stage, or a new attempt: its curve starts afresh.
      if (series.has(point.step)) SPLITS.forEach((split) => points[split].clear());
      series.set(point.step, point.value);
      changed = true;
      figure.hidden = false; // it waits for its first point where not every run has such a curve
    },
    draw() {
      if (!changed || !window.uPlot) return;
      changed = false;
      canvas.querySelector(".chart-empty")?.remove();
      if (plot) plot.setData(data());
      else plot = build();
      legend(null);
      tabulate();
    },
  };
}
