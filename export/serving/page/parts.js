// Parts of requests and answers that several kinds share. A kind is one file in requests/ or answers/.
const requestKinds = {};
const answerKinds = {};

// Makes an element; text is always text, never HTML.
function element(name, attributes = {}, children = []) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// A number as text with four digits, from 1,000 on as a whole number.
function show(value) {
  if (typeof value !== "number") return String(value);
  if (Math.abs(value) >= 1000 && Math.abs(value) < 1e15) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

// A float32 number with as few digits as give the same number again.
function exact(value) {
  for (let digits = 4; digits < 9; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}

const transposed = (rows) => rows[0].map((_, channel) => rows.map((row) => row[channel]));

// A table of names and numbers with bars; `best` marks the first row, or the rows that a function accepts.
function bars(head, rows, most, best) {
  const marked = typeof best === "function" ? best : (row) => best && row === rows[0];
  const lines = rows.map((row) => element("tr", { className: marked(row) ? "best" : "" }, [
    element("th", { scope: "row" }, [row[0]]),
    element("td", { className: "bar", ariaHidden: "true" }, [barOf(row[1] / most)]),
    element("td", { className: "number" }, [typeof row[1] === "number" ? row[1].toFixed(4) : ""]),
  ]));
  const names = [element("th", { scope: "col" }, [head[0]]), element("td"), element("th", { scope: "col" }, [head[1]])];
  return element("table", {}, [element("thead", {}, [element("tr", {}, names)]), element("tbody", {}, lines)]);
}

function barOf(share) {
  const bar = element("div");
  bar.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return bar;
}

const hue = (text) => [...text].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);

function tagged(pairs) {
  return element("ul", { className: "words" }, pairs.map(([word, tag]) => {
    const item = element("li", {}, [word, element("small", {}, [tag])]);
    if (tag !== "O") item.style.background = `hsl(${hue(tag.replace(/^[BIES]-/, ""))} 70% 50% / 0.22)`;
    return item;
  }));
}

// Draws channels as lines, and values that continue the first one as a dashed line.
function curve(channels, description, next = []) {
  const [width, height, edge] = [600, 200, 8];
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const make = (name, attributes) => {
    const made = document.createElementNS(space, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    svg.append(made);
    return made;
  };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "curve");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", description);
  const steps = channels[0].length + next.length;
  channels.slice(0, 8).forEach((channel, number) => {
    const all = (number ? channel : [...channel, ...next]).filter((value) => value !== null && Number.isFinite(value));
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = (step) => edge + (step / Math.max(1, steps - 1)) * (width - 2 * edge);
    const y = (value) => height - edge - ((value - low) / (high - low || 1)) * (height - 4 * edge);
    const line = (values, start) => values
      .map((value, step) => (value === null ? null : `${x(start + step).toFixed(1)},${y(value).toFixed(1)}`))
      .filter(Boolean).join(" ");
    const stroke = number ? `hsl(${(210 + number * 67) % 360} 65% 55%)` : "var(--accent)";
    make("polyline", { points: line(channel, 0), fill: "none", stroke, "stroke-width": number ? 1 : 2 });
    if (!number && next.length) {
      const joined = channel.length ? [channel[channel.length - 1], ...next] : next;
      const points = line(joined, steps - joined.length);
      make("polyline", { points, fill: "none", stroke: "var(--bad)", "stroke-width": 2.5, "stroke-dasharray": "6 3" });
    }
    if (!number && all.length) make("text", { x: edge, y: 14 }).textContent = `${show(low)} to ${show(high)}`;
  });
  return svg;
}

function dropping(target, take) {
  target.addEventListener("dragover", (event) => { event.preventDefault(); target.classList.add("over"); });
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    target.classList.remove("over");
    if (file) { event.preventDefault(); take(file); }
  });
}

// Takes an image that is pasted anywhere on the page, as long as the box is shown.
function pasting(box, take) {
  const listen = (event) => {
    if (!box.isConnected) { document.removeEventListener("paste", listen); return; }
    const file = [...(event.clipboardData?.files || [])].find((part) => part.type.startsWith("image/"));
    if (file) { event.preventDefault(); take(file); }
  };
  document.addEventListener("paste", listen);
}
