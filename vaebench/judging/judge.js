"use strict";
// Keys press the buttons; a button is pressed once, however long its key is held.
let answered = false;
addEventListener("pageshow", () => { answered = false; });
document.querySelector("form").addEventListener("submit", (event) => {
  if (answered) event.preventDefault();
  answered = true;
});
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const pressed = [...document.querySelectorAll("button[aria-keyshortcuts]")].find((button) =>
    button.getAttribute("aria-keyshortcuts").split(" ").includes(event.key));
  if (!pressed) return;
  event.preventDefault();
  pressed.click();
});
