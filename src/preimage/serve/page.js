// The square on the photo under a finger: shown as it will be, told when the finger is lifted. Rules as of Square.dragged.
(() => {
  const corner = 0.15, click = 6;
  let from = null, frame = null, last = null;
  const square = () => {
    const now = document.querySelector("#square-now")?.dataset;
    return now && { x: +now.x, y: +now.y, side: +now.side, turn: (+now.turn * Math.PI) / 180 };
  };
  const box = () => document.querySelector("#marked img").getBoundingClientRect(); // the picture may be drawn anew meanwhile
  const place = (event) => {
    const { left, top, width } = box();
    return [(event.clientX - left) / width, (event.clientY - top) / width];
  };
  const dragged = (s, [x0, y0], [x1, y1]) => {
    const c = Math.cos(s.turn), n = Math.sin(s.turn), r = (x0 - s.x) * c + (y0 - s.y) * n, d = (y0 - s.y) * c - (x0 - s.x) * n;
    if (Math.hypot(Math.abs(r) - s.side / 2, Math.abs(d) - s.side / 2) < corner * s.side)
      return { ...s, side: (s.side * Math.hypot(x1 - s.x, y1 - s.y)) / Math.hypot(x0 - s.x, y0 - s.y) };
    if (Math.max(Math.abs(r), Math.abs(d)) <= s.side / 2) return { ...s, x: s.x + x1 - x0, y: s.y + y1 - y0 };
    const side = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0));
    return { x: x0 + (Math.sign(x1 - x0) * side) / 2, y: y0 + (Math.sign(y1 - y0) * side) / 2, side, turn: 0 };
  };
  const end = () => {
    frame?.remove();
    from = frame = last = null;
  };
  addEventListener("pointerdown", (event) => {
    const image = event.target.closest?.("#marked img");
    if (!image || event.button || !square()) return;
    event.preventDefault();
    from = { x: event.clientX, y: event.clientY, at: place(event) };
  });
  addEventListener("pointermove", (event) => {
    if (!from || (!frame && Math.hypot(event.clientX - from.x, event.clientY - from.y) < click)) return;
    frame ??= document.body.appendChild(Object.assign(document.createElement("div"), { id: "dragging" }));
    last = place(event);
    const { left, top, width } = box(), s = dragged(square(), from.at, last);
    frame.style.cssText = `left:${left + scrollX + s.x * width}px; top:${top + scrollY + s.y * width}px;
      width:${s.side * width}px; height:${s.side * width}px; transform:translate(-50%,-50%) rotate(${s.turn}rad)`;
  });
  addEventListener("pointerup", () => {
    if (frame && last) {
      const field = document.querySelector("#dragged textarea, #dragged input");
      field.value = [...from.at, ...last].map((x) => x.toFixed(5)).join(",");
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.dispatchEvent(new KeyboardEvent("keypress", { key: ",", bubbles: true })); // only then Gradio tells the server
      // what follows is no click on a face
      const quiet = (event) => event.target.closest?.("#marked") && event.stopPropagation();
      addEventListener("click", quiet, true);
      setTimeout(() => removeEventListener("click", quiet, true), 50);
    }
    end();
  });
  addEventListener("pointercancel", end);
})();
