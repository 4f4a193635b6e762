// Sends an image or a text to the model and shows the answer that the server has drawn, over the picture that is here.
// Without this the form posts and the page answers.
export function startTry(root) {
  const form = root.querySelector("form");
  const answer = root.querySelector("[data-try-answer]");
  const preview = root.querySelector("[data-try-preview]");
  const zone = root.querySelector(".dropzone");

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(new FormData(form));
  });
  answer.addEventListener("input", (event) => adjust(answer, event.target));
  if (!zone) return;
  const show = (file) => {
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(file);
    preview.hidden = false;
    const body = new FormData(form);
    body.set("image", file);
    send(body);
  };
  const input = form.querySelector("input[type=file]");
  input.addEventListener("change", () => input.files[0] && show(input.files[0]));
  root.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.dataset.over = "";
  });
  root.addEventListener("dragleave", () => delete zone.dataset.over);
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    delete zone.dataset.over;
    if (event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
  });

  async function send(body) {
    answer.textContent = "Looking…";
    try {
      const response = await fetch(window.location.href, { method: "POST", body, headers: { "HX-Request": "true" } });
      answer.innerHTML = await response.text();
    } catch {
      answer.textContent = "The server did not answer. Try again.";
    }
    const picture = answer.querySelector("[data-try-picture]");
    if (!picture) return;
    picture.src = preview.src;
    picture.hidden = false;
    preview.hidden = true; // it is under the answer now
    const slider = answer.querySelector("[data-try-opacity]");
    if (slider) adjust(answer, slider);
  }
}

function adjust(answer, slider) {
  if ("tryOpacity" in slider.dataset) answer.querySelector("[data-try-mask]").style.opacity = slider.value;
  if (!("tryThreshold" in slider.dataset)) return;
  answer.querySelectorAll("[data-score]").forEach((found) => {
    found.toggleAttribute("data-below", Number(found.dataset.score) < Number(slider.value));
  });
  answer.querySelector("[data-try-threshold-shown]").textContent = `${Math.round(100 * slider.value)}%`;
}
