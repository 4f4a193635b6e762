// One line chart: a curve for training, one for validation.
const SPLITS = ["train", "validation"];
const HEIGHT = 220;

export function chart(figure) {
  const points = { train: new Map(), validation: new Map() };
  const canvas = figure.querySelector(".chart-canvas");
  let plot = null;
  let changed = false;

  const color = (name) => getComputedStyle(figure).getPropertyValue(name).trim();
  const data = () => {
    const steps = [...new Set(SPLITS.flatMap((split) => [...points[split].keys()]))].sort((a, b) => a - b);
    return [steps, ...SPLITS.map((split) => steps.map((step) => points[split].get(step) ?? null))];
  };
  const build = () => {
    const ink = color("--ink-soft") || "#667";
    const axis = { stroke: ink, grid: { stroke: color("--line") || "#ddd", width: 1 } };
    const line = (label, stroke, dash) => ({ label, stroke, width: 2, spanGaps: true, dash });
    return new window.uPlot(
      {
        width: canvas.clientWidth || 400,
        height: HEIGHT,
        scales: { x: { time: false } },
        axes: [axis, axis],
        series: [{ label: "step" }, line("train", ink, [6, 4]), line("validation", color("--accent") || "#06c")],
      },
      data(),
      canvas,
    );
  };
  return {
    add(point) {
      points[point.split]?.set(point.step, point.value);
      changed = true;
    },
    draw() {
      if (!changed || !window.uPlot) return;
      changed = false;
      if (plot) plot.setData(data());
      else plot = build();
    },
  };
}
