"use strict";
/* Sorting, filtering, enlarging and tips. Without this file the page is whole, only not so handy. */
(() => {
  const make = (tag, given = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), given);
    element.append(...inside);
    return element;
  };

  /* Tables ------------------------------------------------------------------------------------------ */

  const text = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("sup").forEach((mark) => mark.remove());
    return copy.textContent.trim();
  };

  /* null: nothing there; NaN: words; else the first number ("71.20 ± 0.31", "3,931,374", "<0.001", "−2"). */
  const value = (written) => {
    if (written === "" || written.startsWith("—")) return null;
    const found = /^(<?)\s*([+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*([kMG](?![A-Za-z]))?/.exec(
      written.replace(/−/g, "-"));
    if (!found) return NaN;
    const size = Number(found[2].replace(/,/g, "")) * ({ k: 1e3, M: 1e6, G: 1e9 }[found[3]] || 1);
    return found[1] ? size - Math.abs(size) * 1e-9 : size;
  };

  const order = (rows, column) => {
    const texts = new Map(rows.map((row) => [row, row.cells[column] ? text(row.cells[column]) : ""]));
    const values = new Map(rows.map((row) => [row, value(texts.get(row))]));
    const numbers = rows.every((row) => !Number.isNaN(values.get(row)));
    const compare = numbers
      ? (a, b) => values.get(a) - values.get(b)
      : (a, b) => texts.get(a).localeCompare(texts.get(b), undefined, { numeric: true });
    return (sign) => [...rows].sort((a, b) => {
      const lost = (values.get(a) === null) - (values.get(b) === null);
      return lost || (values.get(a) === null ? 0 : sign * compare(a, b));
    });
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim() || rows.length < 2) return;
      const first = head.textContent.trim().endsWith("↑") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const button = make("button", { type: "button", className: "sort" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { [first]: second, [second]: null }[head.getAttribute("aria-sort")];
        const direction = next === undefined ? first : next;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (direction) head.setAttribute("aria-sort", direction);
        body.append(...(direction ? order(rows, column)(direction === "ascending" ? 1 : -1) : rows));
      });
    });
  };

  const filtered = (table) => {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < (table.closest("figure") ? 4 : 8)) return;
    const box = make("input", { type: "search", autocomplete: "off", spellcheck: false });
    const said = make("output");
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row) => {
        const inside = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => inside.includes(word));
      });
      const left = rows.filter((row) => !row.hidden).length;
      said.textContent = words.length ? `${left} of ${rows.length} rows` : "";
    });
    table.closest(".wide").before(make("div", { className: "controls" },
      make("label", {}, "Filter rows", box), said));
  };

  /* Only what does scroll is a stop of the keyboard. */
  const reachable = (box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };

  /* Figures ----------------------------------------------------------------------------------------- */

  const enlarged = () => {
    const title = make("b");
    const large = make("div", { className: "large", tabIndex: 0 });
    const close = make("button", { value: "close" }, "Close (Esc)");
    const dialog = make("dialog", {}, make("form", { method: "dialog" }, title, close), large);
    dialog.setAttribute("aria-label", "Figure");
    document.body.append(dialog);
    large.addEventListener("click", () => large.classList.toggle("full"));
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    return (image) => {
      title.textContent = image.alt;
      large.classList.remove("full");
      large.replaceChildren(make("img", { src: image.src, alt: image.alt }));
      dialog.showModal();
    };
  };

  const zoomable = (image, open) => {
    const button = make("button", { type: "button", className: "zoom" });
    button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => open(image));
  };

  /* Provenance -------------------------------------------------------------------------------------- */

  const tips = () => {
    const tip = make("div", { id: "tip", hidden: true });
    tip.setAttribute("role", "tooltip");
    document.body.append(tip);
    document.querySelectorAll("tr[title]").forEach((row) => {
      row.dataset.tip = row.title;
      row.removeAttribute("title");
    });
    let link = null;
    const place = () => {
      const box = link.getBoundingClientRect();
      const below = box.bottom + tip.offsetHeight + 8 < innerHeight;
      tip.style.top = `${below ? box.bottom + 6 : Math.max(4, box.top - tip.offsetHeight - 6)}px`;
      tip.style.left = `${Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
    };
    const hide = () => { link = null; tip.hidden = true; };
    const show = (event) => {
      link = event.target.closest ? event.target.closest("a.src") : null;
      if (!link) { hide(); return; }
      tip.textContent = link.closest("tr").dataset.tip;
      tip.hidden = false;
      link.setAttribute("aria-describedby", "tip");
      place();
    };
    document.addEventListener("mouseover", show);
    document.addEventListener("focusin", show);
    document.addEventListener("focusout", hide);
    document.addEventListener("scroll", () => { if (link) place(); }, { passive: true, capture: true });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  };

  /* The target of a link is shown, also where it lies in something closed. */
  const uncover = () => {
    const target = document.getElementById(location.hash.slice(1));
    const closed = target && target.closest("details:not([open])");
    if (closed) { closed.open = true; target.scrollIntoView(); }
  };

  document.querySelectorAll(".wide table").forEach((table) => {
    if (table.tHead) { sortable(table); filtered(table); }
  });
  const boxes = [...document.querySelectorAll(".wide")];
  const look = () => boxes.forEach(reachable);
  look();
  addEventListener("resize", look);
  const open = enlarged();
  document.querySelectorAll("figure > img").forEach((image) => zoomable(image, open));
  tips();
  uncover();
  addEventListener("hashchange", uncover);
})();
