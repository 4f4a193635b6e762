// Sends one image to the model and shows the likeliest classes.
export function startTry(root) {
  const part = (name) => root.querySelector(`[data-try-${name}]`);
  const input = root.querySelector("input[type=file]");
  input.addEventListener("change", () => input.files[0] && send(input.files[0]));
  root.addEventListener("dragover", (event) => event.preventDefault());
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });

  async function send(file) {
    part("error").hidden = true;
    part("results").replaceChildren();
    part("preview").src = URL.createObjectURL(file);
    part("preview").hidden = false;
    const body = new FormData(root.querySelector("form"));
    body.set("image", file);
    try {
      const answer = await fetch(root.dataset.predictUrl, { method: "POST", body });
      const document_ = await answer.json();
      if (!answer.ok) throw new Error(document_.message);
      document_.predictions.forEach((prediction) => part("results").append(row(prediction)));
      part("time").textContent = `${document_.milliseconds} ms${document_.warm ? "" : ", the model was loaded first"}`;
    } catch (error) {
      part("error").textContent = error.message || "The server did not answer. Try again.";
      part("error").hidden = false;
    }
  }
}

function row(prediction) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  label.textContent = prediction.label;
  const meter = document.createElement("meter");
  meter.value = prediction.confidence;
  meter.setAttribute("aria-label", prediction.label);
  const share = document.createElement("b");
  share.textContent = `${(100 * prediction.confidence).toFixed(1)}%`;
  item.append(label, meter, share);
  return item;
}
