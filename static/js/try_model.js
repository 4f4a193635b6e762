// Sends one image to the model and shows the likeliest classes. Without this the form posts and the page answers.
export function startTry(root) {
  const part = (name) => root.querySelector(`[data-try-${name}]`);
  const zone = root.querySelector(".dropzone");
  const input = root.querySelector("input[type=file]");
  input.addEventListener("change", () => input.files[0] && send(input.files[0]));
  root.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.dataset.over = "";
  });
  root.addEventListener("dragleave", () => delete zone.dataset.over);
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    delete zone.dataset.over;
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });

  async function send(file) {
    part("error").hidden = true;
    part("results").replaceChildren();
    part("time").textContent = "Looking…";
    part("preview").src = URL.createObjectURL(file);
    part("preview").hidden = false;
    const body = new FormData(root.querySelector("form"));
    body.set("image", file);
    try {
      const answer = await fetch(root.dataset.predictUrl, { method: "POST", body });
      const document_ = await answer.json();
      if (!answer.ok) throw new Error(document_.message);
      part("results").replaceChildren(...document_.predictions.map(row));
      part("time").textContent = `${document_.milliseconds} ms${document_.warm ? "" : ", after the model was loaded"}`;
    } catch (error) {
      part("time").textContent = "";
      part("error").textContent = error.message || "The server did not answer. Try again.";
      part("error").hidden = false;
    }
  }
}

function row(prediction) {
  const item = document.createElement("li");
  item.className = "meter";
  const label = document.createElement("span");
  label.textContent = prediction.label;
  const share = document.createElement("b");
  share.textContent = `${(100 * prediction.confidence).toFixed(1)}%`;
  const meter = document.createElement("meter");
  meter.value = prediction.confidence;
  meter.setAttribute("aria-label", prediction.label);
  item.append(label, share, meter);
  return item;
}
