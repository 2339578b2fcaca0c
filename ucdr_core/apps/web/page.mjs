// The doodle page: what is drawn is searched for, in the page, with the model as it was and as it was trained.
import { element, pad } from "./pad.mjs";
import { Searcher, blank, onWhite, unpacked } from "./retrieval.mjs";

const SHOWN = 12;
const here = (name) => new URL(name, import.meta.url);
const host = document.getElementById("doodle");

async function fetched(name, kind) {
  const response = await fetch(here(name));
  if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
  return response[kind]();
}

async function start() {
  const built = await fetched("build.json", "json").catch(() => ({ missing: "The page's files were not made: build the book with `make site`." }));
  if (built.missing) {
    host.replaceChildren(element("p", { className: "ucdr-missing", textContent: `The doodle page is not in this build. ${built.missing}` }));
    return;
  }
  const description = await fetched("gallery.json", "json");
  const status = element("p", { className: "ucdr-status", textContent: `Loading the model, once: ${Math.round(built.bytes / 1e6)} MB …` });
  status.setAttribute("role", "status");
  status.setAttribute("aria-live", "polite");
  const left = element("div", { className: "ucdr-left" }), right = element("div", { className: "ucdr-right" });
  const trained = results(`Trained on doodles and pictures (${names[description.method] ?? description.method})`, "trained");
  const untrained = results("The same trunk, untrained: what ImageNet alone makes of it", "untrained");
  const votes = element("div", { className: "ucdr-votes" }), words = element("p", { className: "ucdr-words" });
  const drawing = pad(left, () => { clearTimeout(timer); timer = setTimeout(search, 120); });
  let timer = 0, searcher = null, asked = 0;
  left.append(await examples(drawing), status);
  right.append(trained.section, element("h3", { textContent: "What they vote for" }), votes, words, untrained.section);
  host.replaceChildren(left, right);

  async function search() {
    const { bytes, width, height } = drawing.pixels();
    const own = ++asked;
    if (blank(onWhite(bytes, width, height))) {
      for (const list of [trained.list, untrained.list, votes]) list.replaceChildren();
      words.textContent = "";
      status.textContent = searcher ? "Draw something, or choose an example." : status.textContent;
      return;
    }
    if (!searcher) return;
    const found = await searcher.search(bytes, width, height, SHOWN);
    if (own !== asked) return; // drawn on meanwhile
    trained.show(found.trained, description);
    untrained.show(found.untrained, description);
    votes.replaceChildren(...found.votes.map(({ name, count }) => bar(name, count, description)));
    words.textContent = found.words.length ? `Nearest class words: ${found.words.map(({ name, similarity }) => `${name} ${similarity.toFixed(2)}`).join(", ")}` : "";
    const best = found.votes[0];
    status.textContent = `${SHOWN} pictures found in ${Math.round(found.milliseconds)} ms; most of them: ${best.name} (${best.count}).`;
    status.dataset.found = String(SHOWN);
    status.dataset.milliseconds = String(found.milliseconds);
  }

  const ort = await import(here("ort.wasm.min.mjs"));
  ort.env.wasm.numThreads = 1; // more would need headers that a plain server does not send
  ort.env.wasm.wasmPaths = { mjs: here("ort-wasm-simd-threaded.mjs").href };
  const [runtime, model, gallery] = await Promise.all(["ort-wasm-simd-threaded.wasm.gz", "model.onnx.gz", "gallery.bin.gz"].map(async (name) => unpacked(await fetched(name, "arrayBuffer"))));
  ort.env.wasm.wasmBinary = runtime;
  searcher = await Searcher.open(ort, new Uint8Array(model), description, gallery);
  await searcher.search(new Uint8Array(3 * 9).fill(255), 3, 3); // the first is slow, as the code is compiled: not the reader's
  status.textContent = "Draw something, or choose an example.";
  status.dataset.ready = "1";
  await search();
}

const names = { snmpnet: "SnMpNet", cumix: "CuMix", eisnet: "EISNet" };

/** A titled list of found pictures: each a tile of the sprite, with class, similarity and whose picture it is. */
function results(title, name) {
  const list = element("ol", { className: "ucdr-found", id: `ucdr-${name}` });
  const section = element("section", {}, element("h3", { textContent: title }), list);
  function show(found, description) {
    list.replaceChildren(...found.map(({ picture, similarity }) => {
      const [number, domain] = description.pictures[picture], label = description.classes[number], { tile_px: side, columns } = description;
      const tile = element("span", { className: "ucdr-tile" });
      tile.style.backgroundImage = `url("${here("sprite.webp")}")`;
      tile.style.backgroundPosition = `-${(picture % columns) * side}px -${Math.floor(picture / columns) * side}px`;
      tile.style.width = tile.style.height = `${side}px`;
      const credit = description.credits[domain]?.attribution ?? domain;
      const seen = description.seen.includes(label);
      tile.setAttribute("role", "img");
      tile.setAttribute("aria-label", `${label}, ${credit}`);
      return element("li", { title: `${label}: ${credit}, ${description.credits[domain]?.licence ?? ""}` }, tile,
        element("span", { className: "ucdr-class", textContent: label + (seen ? "" : " *") }),
        element("span", { className: "ucdr-similarity", textContent: Math.abs(similarity).toFixed(2) }),
        element("span", { className: "ucdr-credit", textContent: description.credits[domain]?.set.split(/[,(]/)[0].trim() ?? domain }));
    }));
  }
  return { list, section, show };
}

function bar(name, count, description) {
  const filled = element("span", { className: "ucdr-bar" });
  filled.style.width = `${(100 * count) / SHOWN}%`;
  return element("div", {}, element("span", { className: "ucdr-name", textContent: name + (description.seen.includes(name) ? "" : " *") }), element("span", { className: "ucdr-track" }, filled), element("span", { textContent: String(count) }));
}

/** Buttons with drawings to begin with, those of the parity file. */
async function examples(drawing) {
  const row = element("div", { className: "ucdr-examples" });
  row.setAttribute("aria-label", "Example drawings");
  for (const own of (await fetched("parity.json", "json")).examples) {
    const packed = Uint8Array.from(atob(own.rgb), (letter) => letter.charCodeAt(0));
    const rgb = new Uint8Array(await unpacked(packed.buffer)), picture = element("canvas", { width: own.width, height: own.height });
    const data = new ImageData(own.width, own.height);
    for (let i = 0; i < own.width * own.height; i++) data.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
    picture.getContext("2d").putImageData(data, 0, 0);
    const button = element("button", { type: "button", title: own.class + (own.unseen ? " (never trained on)" : "") }, picture);
    button.setAttribute("aria-label", `Example: ${own.class}${own.unseen ? ", never trained on" : ""}`);
    button.addEventListener("click", () => drawing.show(picture));
    row.append(button);
  }
  return row;
}

start().catch((error) => {
  host.replaceChildren(element("p", { className: "ucdr-missing", textContent: `The doodle page could not start: ${error.message}` }));
  throw error;
});
