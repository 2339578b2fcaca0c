// A square to draw on, with mouse, pen, finger or keys.  The doodle page and the notebook's canvas share it.

const SIDE = 384; // pixels of the drawing, whatever its size on the screen

/** A new element with these properties and children. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/**
 * Puts a drawing pad into `host`.
 *   changed()  is called after each finished stroke, undo, clear or show
 * Returns {canvas, undo, clear, show(image), pixels(): {bytes, width, height}, strokes}.
 */
export function pad(host, changed = () => {}) {
  const canvas = element("canvas", { width: SIDE, height: SIDE, tabIndex: 0, className: "ucdr-pad" });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Drawing pad. Arrow keys move the pen, space puts it down and lifts it, Control Z takes the last stroke back.");
  const width = element("input", { type: "range", min: 2, max: 28, value: 10, className: "ucdr-width" });
  const undoButton = element("button", { type: "button", textContent: "Undo" });
  const clearButton = element("button", { type: "button", textContent: "Clear" });
  host.append(canvas, element("div", { className: "ucdr-tools" }, undoButton, clearButton, element("label", {}, "Stroke ", width)));

  const context = canvas.getContext("2d", { willReadFrequently: true });
  const strokes = []; // {width, points: [[x, y], ...]} or {image}
  let current = null, cursor = [SIDE / 2, SIDE / 2], keyed = false;

  function draw(stroke) {
    if (stroke.image) return context.drawImage(stroke.image, 0, 0, SIDE, SIDE);
    context.lineWidth = stroke.width;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = context.fillStyle = "black";
    const [first, ...rest] = stroke.points;
    context.beginPath();
    if (!rest.length) {
      context.arc(...first, stroke.width / 2, 0, 2 * Math.PI);
      return context.fill();
    }
    context.moveTo(...first);
    rest.forEach((point) => context.lineTo(...point));
    context.stroke();
  }

  function redraw() {
    context.fillStyle = "white";
    context.fillRect(0, 0, SIDE, SIDE);
    strokes.forEach(draw);
    if (document.activeElement === canvas && keyed) { // the pen of the keys; not part of the drawing, see pixels()
      context.strokeStyle = current ? "#d55e00" : "#0072b2";
      context.lineWidth = 2;
      context.beginPath();
      context.arc(...cursor, 9, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  const begin = (point) => { strokes.push(current = { width: Number(width.value), points: [point] }); redraw(); };
  const end = () => { if (current) { current = null; redraw(); changed(); } };
  const undo = () => { current = null; if (strokes.pop()) { redraw(); changed(); } };
  const clear = () => { current = null; strokes.length = 0; redraw(); changed(); };
  const show = (image) => { current = null; strokes.length = 0; strokes.push({ image }); redraw(); changed(); };

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * SIDE / box.width, (event.clientY - box.top) * SIDE / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    keyed = false;
    canvas.setPointerCapture(event.pointerId);
    begin(place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!current || keyed) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) current.points.push(place(one));
    redraw();
  });
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);

  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
    if (step) {
      cursor = cursor.map((value, i) => Math.min(SIDE, Math.max(0, value + step[i])));
      current?.points.push(cursor);
    } else if (event.key === " " || event.key === "Enter") {
      keyed = true;
      current ? end() : begin(cursor);
    } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) undo();
    else return;
    keyed = true;
    event.preventDefault();
    redraw();
  });
  canvas.addEventListener("blur", () => { end(); keyed = false; redraw(); });
  undoButton.addEventListener("click", undo);
  clearButton.addEventListener("click", clear);
  redraw();

  function pixels() {
    const own = keyed;
    keyed = false;
    redraw();
    const { data } = context.getImageData(0, 0, SIDE, SIDE);
    keyed = own;
    redraw();
    return { bytes: data, width: SIDE, height: SIDE };
  }
  return { canvas, strokes, undo, clear, show, pixels };
}
