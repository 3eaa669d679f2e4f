// A picture of the report, pressed, fills the window; pressed again, or Escape, it goes back.
"use strict";

document.querySelectorAll(".picture").forEach((button) => button.addEventListener("click", () => {
  const dialog = document.createElement("dialog"), image = button.firstElementChild.cloneNode();
  dialog.setAttribute("aria-label", image.alt);
  dialog.append(image);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}));
