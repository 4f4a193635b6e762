// Sends a form with its file by XHR, because fetch cannot report progress. Without it the form just posts.
export function startUpload(form) {
  const box = document.createElement("div");
  box.className = "upload-progress";
  box.hidden = true;
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.setAttribute("aria-label", "Upload");
  const text = document.createElement("p");
  text.setAttribute("role", "status");
  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.className = "btn btn-quiet btn-sm";
  cancel.textContent = "Cancel the upload";
  box.append(bar, text, cancel);
  form.append(box);

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const request = new XMLHttpRequest();
    const started = performance.now();
    const submit = form.querySelector("button:not([type=button])");
    box.hidden = false;
    submit.disabled = true;
    cancel.hidden = false;
    cancel.onclick = () => request.abort();
    request.upload.onprogress = (progress) => {
      if (!progress.lengthComputable) return;
      const rate = progress.loaded / (performance.now() - started) / 1048.576;
      bar.value = progress.loaded / progress.total;
      text.textContent = `${Math.round(100 * bar.value)}% at ${rate.toFixed(1)} MB/s`;
    };
    const stop = (message) => {
      text.textContent = message;
      submit.disabled = false;
      cancel.hidden = true;
    };
    request.onabort = () => stop("Canceled. Nothing was kept.");
    request.onerror = () => stop("The connection broke. Try again.");
    request.onload = () => {
      const answer = parse(request.responseText);
      if (request.status < 300 && answer.location) window.location.assign(answer.location);
      else stop(sentence(answer, request.status));
    };
    request.open("POST", form.action || window.location.href);
    request.setRequestHeader("Accept", "application/json");
    request.send(new FormData(form));
  });
}

function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}

function sentence(answer, status) {
  const errors = Object.values(answer.errors || {}).flat();
  return errors.join(" ") || `The server answered ${status}. Try again.`;
}
