// Draws the table of days beside it as lines: people, libraries, and programs together with build services.
const HEIGHT = 240;
const DAY = 86400; // seconds
const DASHES = [[], [6, 4], [2, 3]];

export function startDayChart(figure) {
  const rows = [...figure.querySelectorAll("tr[data-day]")];
  const number = (row, column) => Number(row.cells[column].textContent);
  const data = [
    rows.map((row) => Date.parse(`${row.dataset.day}T00:00:00Z`) / 1000),
    rows.map((row) => number(row, 1)),
    rows.map((row) => number(row, 2)),
    rows.map((row) => number(row, 3) + number(row, 4)),
  ];
  const canvas = figure.querySelector(".chart-canvas");
  const told = [...figure.querySelectorAll(".chart-legend b")];
  const color = (name) => getComputedStyle(figure).getPropertyValue(name).trim();
  let plot = null;

  const legend = (at) => told.forEach((place, series) => (place.textContent = at === null ? "" : data[series + 1][at]));
  const draw = () => {
    plot?.destroy();
    const axis = { stroke: color("--ink-soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
    plot = new window.uPlot(
      {
        width: canvas.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        tzDate: (seconds) => window.uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        scales: { y: { range: (self, low, high) => [0, Math.max(high, 1)] } },
        axes: [days(axis), { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000, 100000] }],
        series: [{}, ...DASHES.map((dash, place) => ({ stroke: color(`--series-${place + 1}`), width: 2, dash }))],
        hooks: { setCursor: [(self) => legend(self.cursor.idx ?? null)] },
      },
      data,
      canvas,
    );
  };
  if (window.uPlot) draw();
  else window.addEventListener("load", draw); // its script may come after this one
  new ResizeObserver(() => plot?.setSize({ width: canvas.clientWidth, height: HEIGHT })).observe(canvas);
  document.addEventListener("themechange", () => plot && draw());
}

function days(axis) {
  const values = (self, splits) => splits.map((seconds) => new Date(1000 * seconds).toISOString().slice(5, 10));
  return { ...axis, incrs: [1, 2, 7, 14, 30, 60, 90].map((number) => number * DAY), values };
}
