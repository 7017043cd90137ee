// The gallery: cards of one page of images, filters, a switch between pictures, a large view.
// Everything that comes from data goes into the page as text, never as HTML.
"use strict";
(() => {
  const PAGE = 36;
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const chunks = new Map();
  const waiting = new Map();
  const form = document.querySelector(".tools");
  const cards = document.getElementById("cards");
  const dialog = document.getElementById("large");
  let page = 0;
  let found = [];
  let opened = -1;
  let asked = 0;

  window.sbeEntries = (number, rows) => chunks.set(number, rows);

  function load(number) {
    if (!waiting.has(number)) {
      waiting.set(number, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `gallery/entries-${number}.js`;
        script.onload = resolve;
        script.onerror = reject;
        document.head.append(script);
      }));
    }
    return waiting.get(number);
  }

  function imageOf(row) {
    const [id, height, width, layers, iou, classes, missed, tooLarge, confused] = row;
    return {id, height, width, layers, iou, classes, missed, tooLarge, confused};
  }

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function chosen() {
    return new FormData(form);
  }

  function hasLayer(image, key) {
    return (image.layers >> data.layers.findIndex((layer) => layer.key === key)) & 1;
  }

  function address(image, key) {
    const layer = data.layers.find((each) => each.key === key);
    return `gallery/${key}/${encodeURIComponent(image.id)}${layer.suffix}`;
  }

  function titleOf(key) {
    return key ? data.layers.find((layer) => layer.key === key).title : "photograph";
  }

  // The photograph with a layer over it, as large as its box allows.
  function stack(image, key) {
    const made = element("span", {class: image.width * 3 >= image.height * 4 ? "stack flat" : "stack tall"});
    made.style.aspectRatio = `${image.width} / ${image.height}`;
    if (hasLayer(image, "photo")) {
      made.append(element("img", {src: address(image, "photo"), alt: `photograph ${image.id}`, loading: "lazy", decoding: "async"}));
    }
    if (key && hasLayer(image, key)) {
      made.append(element("img", {src: address(image, key), alt: `${titleOf(key)} of ${image.id}`, class: "over", loading: "lazy", decoding: "async"}));
    }
    return made;
  }

  function percent(value) {
    return value === null ? "-" : (100 * value).toFixed(1);
  }

  function faultsOf(image) {
    const name = (k) => data.classes[k];
    return [
      ...image.missed.map((k) => `${name(k)} missed`),
      ...image.tooLarge.map((k) => `${name(k)} too large`),
      ...image.confused.map(([a, b]) => `${name(a)} taken for ${name(b)}`),
    ];
  }

  function classList(image) {
    return image.classes.flatMap((k) => {
      const dot = element("span", {class: "swatch"});
      dot.style.setProperty("--c", data.colours[k]);
      return [dot, `${data.classes[k]}  `];
    });
  }

  function caption(image) {
    const made = element("div", {class: "caption"});
    const score = (key) => image.iou[data.scored.indexOf(key)] ?? null;
    const before = data.main.replace("_crf", "");
    if (score(data.main) !== null) {
      made.append("IoU ", element("b", {}, percent(score(data.main))));
      if (before !== data.main && score(before) !== null) {
        made.append(element("span", {class: "quiet"}, `, before CRF ${percent(score(before))}`));
      }
    }
    made.append(element("span", {class: "id what"}, image.id));
    if (image.classes.length) made.append(element("span", {class: "what"}, ...classList(image)));
    for (const text of faultsOf(image)) made.append(element("span", {class: "fault what"}, text));
    return made;
  }

  function card(image, place) {
    const button = element("button", {type: "button", "aria-label": `enlarge ${image.id}`},
      element("span", {class: "box"}, stack(image, chosen().get("layer"))));
    button.addEventListener("click", () => open(place));
    return element("li", {}, button, caption(image));
  }

  function matches(image, wanted) {
    const kind = Number(wanted.get("class") || 0);
    const fault = wanted.get("fault");
    if (kind && !image.classes.includes(kind)) return false;
    if (wanted.get("id") && !image.id.toLowerCase().includes(wanted.get("id").toLowerCase())) return false;
    const of = (list) => list.some((k) => !kind || k === kind);
    if (fault === "missed") return of(image.missed);
    if (fault === "too_large") return of(image.tooLarge);
    if (fault === "confused") return image.confused.some((pair) => !kind || pair.includes(kind));
    if (fault === "none") return !image.missed.length && !image.tooLarge.length && !image.confused.length;
    return true;
  }

  function isPlain(wanted) {
    return !wanted.get("class") && !wanted.get("fault") && !wanted.get("id") && (wanted.get("order") || "worst") === "worst";
  }

  // The images that are wanted, in their order. As they lie in the files: null where not loaded.
  async function find() {
    const wanted = chosen();
    if (isPlain(wanted)) {
      const [first, last] = [page * PAGE, Math.min((page + 1) * PAGE, data.count) - 1];
      for (const place of [first, last]) if (place >= 0 && data.count) await load(Math.floor(place / data.chunk));
      return Array.from({length: data.count}, (_, k) => chunks.get(Math.floor(k / data.chunk))?.[k % data.chunk] ?? null);
    }
    await Promise.all(Array.from({length: data.chunks}, (_, k) => load(k)));
    const rows = [];
    for (let k = 0; k < data.chunks; k++) rows.push(...chunks.get(k));
    const fitting = rows.filter((row) => matches(imageOf(row), wanted));
    if (wanted.get("order") === "best") {
      const main = data.scored.indexOf(data.main);
      fitting.sort((a, b) => (b[4][main] ?? -1) - (a[4][main] ?? -1));
    }
    if (wanted.get("order") === "id") fitting.sort((a, b) => (a[0] < b[0] ? -1 : 1));
    return fitting;
  }

  async function show() {
    const turn = ++asked;
    const rows = await find();
    if (turn !== asked) return;
    found = rows;
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const first = page * PAGE;
    const shown = found.slice(first, first + PAGE).map(imageOf);
    cards.replaceChildren(...shown.map((image, k) => card(image, first + k)));
    if (!shown.length) cards.append(element("li", {class: "empty"}, "No image fits."));
    document.getElementById("place").textContent = shown.length
      ? `${(first + 1).toLocaleString("en")} to ${(first + shown.length).toLocaleString("en")} of ${found.length.toLocaleString("en")}` : "";
    for (const button of document.querySelectorAll("[data-turn]")) {
      const to = page + Number(button.dataset.turn);
      button.disabled = to < 0 || to >= pages;
    }
    legend(shown);
  }

  // What the colours mean of the pictures that are shown.
  function legend(shown) {
    const key = chosen().get("layer");
    const kind = data.layers.find((layer) => layer.key === key)?.legend ?? "";
    const entry = (colour, text) => {
      const dot = element("span", {class: "swatch"});
      dot.style.setProperty("--c", colour);
      return element("span", {}, dot, text);
    };
    const entries = [];
    if (kind === "classes") {
      const there = [...new Set(shown.flatMap((image) => image.classes))].sort((a, b) => a - b);
      entries.push(...there.map((k) => entry(data.colours[k], data.classes[k])), entry("rgb(224, 224, 192)", "void, left open"));
    }
    if (kind === "labels") entries.push(...data.labels.map(([name, colour]) => entry(colour, name)));
    if (kind === "heat") entries.push(entry("linear-gradient(90deg, #4b0c6b, #c73e4c, #fcffa4)", "the strongest class, from weak to strong"));
    if (kind === "boundary") entries.push(entry("#ffd60a", "the likelier a boundary, the stronger"));
    if (kind === "gray") entries.push(entry("linear-gradient(90deg, #000, #fff)", "from 0 to 1"));
    document.getElementById("colours").replaceChildren(...entries);
  }

  function turn(by) {
    const pages = Math.ceil(found.length / PAGE);
    if (page + by < 0 || page + by >= pages) return;
    page += by;
    show().then(() => document.getElementById("gallery").scrollIntoView());
  }

  async function open(place) {
    if (place < 0 || place >= found.length) return;
    if (found[place] === null) {
      const number = Math.floor(place / data.chunk);
      await load(number);
      found[place] = chunks.get(number)[place % data.chunk];
    }
    opened = place;
    const image = imageOf(found[place]);
    const key = chosen().get("layer");
    const view = stack(image, key);
    view.style.width = `min(100%, calc(68vh * ${image.width} / ${image.height}))`;
    const layers = data.layers.map((layer) => (layer.key === "photo" ? "" : layer.key)).filter((each) => !each || hasLayer(image, each));
    const button = (text, action) => {
      const made = element("button", {type: "button"}, text);
      made.addEventListener("click", action);
      return made;
    };
    const strip = layers.map((each) => {
      const made = element("button", {type: "button", "aria-pressed": String(each === key)},
        element("span", {class: "box"}, stack(image, each)), element("span", {class: "name"}, titleOf(each), scoreOf(image, each)));
      made.addEventListener("click", () => choose(each));
      return element("li", {}, made);
    });
    const focused = [...dialog.querySelectorAll("button")].indexOf(document.activeElement);
    dialog.firstElementChild.replaceChildren(
      element("header", {}, element("h3", {}, image.id),
        button("← previous", () => open(opened - 1)), button("next →", () => open(opened + 1)), button("close", () => dialog.close())),
      element("div", {class: "main"},
        element("div", {}, element("div", {class: "view"}, view), caption(image)),
        element("ul", {class: "strip"}, ...strip)));
    if (!dialog.open) dialog.showModal();
    else dialog.querySelectorAll("button")[focused]?.focus();
  }

  function scoreOf(image, key) {
    const place = data.scored.indexOf(key);
    return place >= 0 && image.iou[place] !== null ? ` ${percent(image.iou[place])}` : "";
  }

  function choose(key) {
    const input = [...form.elements.layer].find((each) => each.value === key);
    if (!input) return;
    input.checked = true;
    show();
    if (dialog.open) open(opened);
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name === "opacity") {
      document.body.style.setProperty("--opacity", event.target.value / 100);
      return;
    }
    if (event.target.name !== "layer") page = 0;
    show();
  });
  for (const button of document.querySelectorAll("[data-turn]")) {
    button.addEventListener("click", () => turn(Number(button.dataset.turn)));
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target.matches("select, input[type=search], input[type=range]")) return;
    if (/^[0-9]$/.test(event.key)) {
      const layer = data.layers[Number(event.key)];
      if (layer) choose(layer.key === "photo" ? "" : layer.key);
      return;
    }
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!by || target.matches("input[type=radio], .scroll")) return;
    if (dialog.open) open(opened + by);
    else turn(by);
  });

  const start = data.main || (data.layers.find((layer) => layer.key === "mask_crf" || layer.key === "cam")?.key ?? "");
  const input = [...form.elements.layer].find((each) => each.value === start);
  (input ?? [...form.elements.layer][0]).checked = true;
  show();
})();
