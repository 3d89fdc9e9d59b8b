"use strict";
(() => {
  // Colours: those of the system, unless the button was pressed.
  const root = document.documentElement;
  const store = {
    get: () => { try { return localStorage.getItem("blindsr-theme"); } catch { return null; } },
    set: (v) => { try { localStorage.setItem("blindsr-theme", v); } catch { /* a page that is opened from a file may have no storage */ } },
  };
  const saved = store.get();
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;
  document.querySelector(".theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    store.set(root.dataset.theme);
  });

  // Sliders: the range input covers the image, so that a finger, a mouse and the arrow keys all move it.
  for (const card of document.querySelectorAll("article")) {
    const slider = card.querySelector(".slider");
    if (!slider) continue;
    const range = slider.querySelector("input");
    const move = () => slider.style.setProperty("--at", `${range.value}%`);
    range.addEventListener("input", move);
    move();
    const show = (side, method, label) => {
      for (const image of slider.querySelectorAll("img")) image.classList.toggle(side, image.dataset.method === method);
      slider.querySelector(`.tag-${side}`).textContent = label;
    };
    for (const radio of card.querySelectorAll("input[type=radio]")) {
      radio.addEventListener("change", () => show(radio.dataset.side, radio.value, radio.dataset.label));
      // A browser keeps the choice when it reloads a page.
      if (radio.checked) show(radio.dataset.side, radio.value, radio.dataset.label);
    }
  }

  // Tables: a click on a heading sorts by its column, a second one reverses the order.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const body = table.tBodies[0];
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => {
          const cell = row.cells[column];
          return cell.dataset.value === undefined ? cell.textContent.trim() : parseFloat(cell.dataset.value);
        };
        const rows = [...body.rows];
        rows.sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (typeof x === "number" && typeof y === "number") {
            if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
            return down ? y - x : x - y;
          }
          return (down ? 1 : -1) * String(x).localeCompare(String(y));
        });
        body.append(...rows);
      });
    });
  }
})();
