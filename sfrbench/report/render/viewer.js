/* The slice viewer: all slices of some cases, the arms side by side, contours and errors over them. */
(() => {
  const KINDS = {
    truth: ["Truth", "t", "#f0e442", 2.4, 0], /* name, key, colour, width, length of dashes */
    pseudo: ["Pseudo-label", "l", "#56b4e9", 2, 2],
    prediction: ["Prediction", "p", "#d55e00", 2, 4],
  };
  const ERRORS = { missed: [0, 114, 178], added: [230, 159, 0], wrong: [204, 121, 167] };

  const make = (tag, given = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), given);
    element.append(...inside);
    return element;
  };

  /* One slice of a sheet as class numbers. */
  const labels = (sheet, panel, z) => {
    const small = make("canvas", { width: panel.width, height: panel.height });
    const brush = small.getContext("2d", { willReadFrequently: true });
    brush.drawImage(sheet, -(z % panel.columns) * panel.width, -Math.floor(z / panel.columns) * panel.height);
    const pixels = brush.getImageData(0, 0, panel.width, panel.height).data;
    return Uint8Array.from({ length: panel.width * panel.height }, (_, index) => pixels[4 * index]);
  };

  /* The borders between pixels of different classes, neighbouring ones joined, as one path. */
  const contour = (map, width, height, size) => {
    const path = new Path2D();
    const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : map[y * width + x]);
    const along = (lines, length, differs, draw) => {
      for (let line = 0; line <= lines; line += 1) {
        for (let start = 0, place = 0; place <= length; place += 1) {
          if (place < length && differs(line, place)) continue;
          if (place > start) draw(line * size, start * size, place * size);
          start = place + 1;
        }
      }
    };
    along(width, height, (x, y) => at(x - 1, y) !== at(x, y),
      (x, from, to) => { path.moveTo(x, from); path.lineTo(x, to); });
    along(height, width, (y, x) => at(x, y - 1) !== at(x, y),
      (y, from, to) => { path.moveTo(from, y); path.lineTo(to, y); });
    return path;
  };

  /* A colour in dashes that do not depend on where a line starts: a chequerboard of see-through squares. */
  const dashed = (brush, colour, side) => {
    if (!side) return colour;
    const tile = make("canvas", { width: 2 * side, height: 2 * side });
    const paint = tile.getContext("2d");
    paint.fillStyle = colour;
    paint.fillRect(0, 0, side, side);
    paint.fillRect(side, side, side, side);
    return brush.createPattern(tile, "repeat");
  };

  const errors = (truth, guess, width, height) => {
    const small = make("canvas", { width, height });
    const brush = small.getContext("2d");
    const picture = brush.createImageData(width, height);
    truth.forEach((wanted, index) => {
      if (wanted === guess[index]) return;
      const kind = guess[index] === 0 ? "missed" : wanted === 0 ? "added" : "wrong";
      picture.data.set([...ERRORS[kind], 150], 4 * index);
    });
    brush.putImageData(picture, 0, 0);
    return small;
  };

  /* Clicks and boxes of a slice, white and dark so that they are seen on any grey: a plus on the object, a cross
     beside it. */
  const prompts = (brush, panel, z, size, unit) => {
    const twice = (path, thick, inner, rim) => {
      brush.lineCap = "butt";
      brush.strokeStyle = rim;
      brush.lineWidth = (thick + 2.4) * unit;
      brush.stroke(path);
      brush.strokeStyle = inner;
      brush.lineWidth = thick * unit;
      brush.stroke(path);
    };
    (panel.boxes || []).forEach(([left, top, right, bottom, first, last]) => {
      if (z < first || z > last) return;
      const path = new Path2D();
      path.rect(left * size, top * size, (right - left + 1) * size, (bottom - top + 1) * size);
      twice(path, 1.4, "#fff", "#111");
    });
    (panel.clicks || []).forEach(([column, row, at, inside]) => {
      if (z !== at) return;
      const [x, y, arm] = [(column + 0.5) * size, (row + 0.5) * size, (inside ? 6 : 4.4) * unit];
      const path = new Path2D();
      (inside ? [[1, 0], [0, 1]] : [[1, 1], [1, -1]]).forEach(([dx, dy]) => {
        path.moveTo(x - dx * arm, y - dy * arm);
        path.lineTo(x + dx * arm, y + dy * arm);
      });
      twice(path, 2.6, inside ? "#fff" : "#111", inside ? "#111" : "#fff");
    });
  };
  const promptSlices = (panel) => [...(panel.clicks || []).map((click) => click[2]),
    ...(panel.boxes || []).flatMap((given) => [given[4], given[5]])];

  const paint = (canvas, panel, sheets, z, on) => {
    const wanted = canvas.clientWidth * Math.min(devicePixelRatio || 1, 2);
    const size = Math.max(1, Math.round((wanted || 300) / panel.width));
    canvas.width = panel.width * size;
    canvas.height = panel.height * size;
    const brush = canvas.getContext("2d");
    const [left, top] = [(z % panel.columns) * panel.width, Math.floor(z / panel.columns) * panel.height];
    brush.imageSmoothingEnabled = false;
    brush.drawImage(sheets[panel.image], left, top, panel.width, panel.height, 0, 0, canvas.width, canvas.height);
    const maps = {};
    Object.keys(KINDS).forEach((kind) => {
      if (kind in panel) maps[kind] = labels(sheets[panel[kind]], panel, z);
    });
    const guess = maps.prediction || maps.pseudo;
    if (on.errors && guess) {
      const over = errors(maps.truth, guess, panel.width, panel.height);
      brush.drawImage(over, 0, 0, canvas.width, canvas.height);
    }
    const unit = canvas.width / (canvas.clientWidth || canvas.width);
    Object.entries(maps).forEach(([kind, map]) => {
      if (!on[kind]) return;
      const path = contour(map, panel.width, panel.height, size);
      const [, , colour, thick, dash] = KINDS[kind];
      brush.lineCap = "square";
      if (!dash) {
        brush.lineWidth = (thick + 1.8) * unit;
        brush.strokeStyle = "#0008";
        brush.stroke(path);
      }
      brush.lineWidth = thick * unit;
      brush.strokeStyle = dashed(brush, colour, Math.round(dash * unit));
      brush.stroke(path);
    });
    if (on.prompts) prompts(brush, panel, z, size, unit);
    canvas.dataset.slice = z;
  };

  const viewer = (box) => {
    const data = JSON.parse(box.querySelector("script").textContent);
    const sheets = {};
    const on = { truth: true, prediction: true, pseudo: true, errors: false, prompts: true };
    const any = (kind) => data.cases.some((one) => one.panels.some((panel) => kind in panel));
    let [current, z, canvases] = [data.cases[0], 0, []];

    const stage = make("div", { className: "stage", tabIndex: 0 });
    stage.setAttribute("role", "group");
    stage.setAttribute("aria-label", "Slices of all arms; arrow keys go through them");
    const slider = make("input", { type: "range", min: 0, step: 1 });
    const place = make("output");
    const choice = make("select", {}, ...data.cases.map((one, index) =>
      make("option", { value: index }, `${one.rank}: ${one.name}`)));
    const switches = {};
    const toggle = (kind, name, key, ...keys) => {
      const tick = make("input", { type: "checkbox", checked: on[kind] });
      tick.addEventListener("change", () => { on[kind] = tick.checked; draw(); });
      switches[key] = tick;
      return make("label", { title: `key ${key.toUpperCase()}` }, tick, ...keys, name);
    };
    const swatch = (kind) => make("span", { className: `key ${kind}` });

    const draw = () => {
      const last = Math.max(1, current.slices - 1);
      canvases.forEach(([canvas, panel]) => {
        paint(canvas, panel, sheets, Math.round((z / last) * (panel.slices - 1)), on);
      });
      const shown = canvases.length ? canvases[0][1] : { first: 0, step: 1 };
      const said = `slice ${z + 1} of ${current.slices} (z = ${shown.first + z * shown.step})`;
      place.textContent = said;
      slider.value = z;
      slider.setAttribute("aria-valuetext", said);
    };

    const go = (to) => {
      const next = Math.max(0, Math.min(current.slices - 1, to));
      const moved = next !== z;
      z = next;
      if (moved) draw();
      return moved;
    };

    /* The next slice with a prompt, in any panel; after the last the first. */
    const toPrompt = () => {
      const last = Math.max(1, current.slices - 1);
      const places = current.panels.filter((panel) => "image" in panel).flatMap((panel) =>
        promptSlices(panel).map((at) => Math.round((at / Math.max(1, panel.slices - 1)) * last)));
      const sorted = [...new Set(places)].sort((one, other) => one - other);
      if (sorted.length) go(sorted.find((at) => at > z) ?? sorted[0]);
    };

    const load = (number) => {
      if (number in sheets) return Promise.resolve();
      const image = new Image();
      image.src = data.sheets[number];
      sheets[number] = image;
      return image.decode();
    };

    const show = async (index) => {
      const one = data.cases[index];
      const used = one.panels.flatMap((panel) =>
        ["image", ...Object.keys(KINDS)].filter((kind) => kind in panel).map((kind) => panel[kind]));
      await Promise.all([...new Set(used)].map(load));
      [current, z, canvases] = [one, one.start, []];
      stage.replaceChildren(...one.panels.map((panel) => {
        const title = make("figcaption", {}, make("b", {}, panel.label), make("br"), panel.score);
        if (!("image" in panel)) {
          return make("figure", {}, title, make("div", { className: "none" }, `— ${panel.reason}`));
        }
        const canvas = make("canvas");
        canvas.style.aspectRatio = panel.aspect;
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `${panel.label}, ${panel.score}`);
        canvases.push([canvas, panel]);
        return make("figure", {}, title, canvas);
      }));
      slider.max = Math.max(0, one.slices - 1);
      draw();
      box.dataset.ready = index;
    };

    choice.addEventListener("change", () => show(Number(choice.value)));
    slider.addEventListener("input", () => go(Number(slider.value)));
    stage.addEventListener("click", () => stage.focus());
    stage.addEventListener("wheel", (event) => {
      if (document.activeElement !== stage || event.ctrlKey || !event.deltaY) return;
      if (go(z + Math.sign(event.deltaY))) event.preventDefault();
    }, { passive: false });
    box.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5,
        Home: -Infinity, End: Infinity };
      if (event.target === stage && event.key in steps) {
        go(z + steps[event.key]);
        event.preventDefault();
      } else if (event.target !== choice && prompted && event.key.toLowerCase() === "n") {
        toPrompt();
      } else if (event.target !== choice && event.key.toLowerCase() in switches) {
        switches[event.key.toLowerCase()].click();
      }
    });
    let waiting = 0;
    addEventListener("resize", () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(draw);
    });

    const ticks = Object.entries(KINDS).filter(([kind]) => any(kind))
      .map(([kind, [name, key]]) => toggle(kind, name, key, swatch(kind)));
    const prompted = data.cases.some((one) => one.panels.some((panel) => panel.clicks || panel.boxes));
    if (prompted) {
      ticks.push(toggle("prompts", "Prompts:", "c"), make("span", { className: "means" }, swatch("positive"),
        "on the object"), make("span", { className: "means" }, swatch("negative"), "beside it"));
    }
    const wrong = Object.keys(ERRORS).map((kind) =>
      make("span", { className: "means" }, swatch(kind), kind === "wrong" ? "wrong class" : kind));
    box.append(
      make("h3", {}, "All slices"),
      make("div", { className: "controls" }, make("label", {}, "Case", choice),
        make("label", { className: "slice" }, "Slice", slider), place),
      make("div", { className: "controls" }, ...ticks, toggle("errors", "Errors:", "e"), ...wrong),
      stage,
      make("p", { className: "note" }, `${data.said} Click the pictures, then turn the wheel or use the arrow `
        + `keys, Page Up and Down, Home, End; keys T, P, L${prompted ? ", C" : ""} and E switch what lies over them`
        + `${prompted ? "; N goes to the next slice with a prompt." : "."}`));
    show(0);
  };

  document.querySelectorAll(".viewer").forEach(viewer);
})();
