const models = JSON.parse(document.getElementById("models-data").textContent);
const token = new URLSearchParams(location.search).get("token");
const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
const at = (id) => document.getElementById(id);
let model, signature, fields, lastRequest, language = "curl";

function choices(select, names, chosen) {
  select.replaceChildren(...names.map((name) => element("option", { value: name }, [name])));
  select.value = chosen;
}

function openModel(name) {
  model = { name, ...models[name] };
  at("title").textContent = name;
  at("about").textContent = model.about;
  document.title = `${name}: try the model`;
  const names = Object.keys(model.signatures);
  choices(at("signature"), names, names[0]);
  at("card").open = false;
  at("card-text").textContent = "";
  openSignature(names[0]);
}

function openSignature(name) {
  signature = { name, ...model.signatures[name] };
  fields = {};
  const shownFields = [];
  for (const [key, input] of Object.entries(signature.inputs)) {
    const kind = requestKinds[input.kind] || (input.dtype === "string" ? requestKinds.text : requestKinds.number);
    const field = kind(input, key, signature.examples);
    fields[key] = field;
    const label = element("label", { htmlFor: `input-${key}` }, [input.column || key]);
    shownFields.push(element("div", { className: "field" }, [label, ...field.parts]));
  }
  const isGrid = Object.values(fields).every((field) => field.isSmall);
  at("fields").className = isGrid ? "grid" : "";
  at("fields").replaceChildren(...shownFields);
  at("hint").textContent = isGrid ? "" : Object.values(signature.inputs).map((input) => input.description).filter(Boolean).join("; ");
  at("answer").replaceChildren(element("p", { className: "quiet" }, ["Send a request to see the answer."]));
  at("latency").textContent = "";
  lastRequest = null;
  showExamples();
  if (signature.examples.length) fill(signature.examples[0]);
  showCode();
}

function showExamples() {
  if (!signature.examples.length) {
    at("examples").replaceChildren();
    return;
  }
  const buttons = signature.examples.map((example, place) => {
    const button = element("button", { type: "button" });
    const parts = Object.entries(example).map(([name, value]) => [fields[name], value]);
    const [first, value] = parts[0];
    if (first.picture) button.append(element("img", { src: first.picture(value), alt: `example ${place + 1}` }));
    else button.append(parts.map(([field, part]) => field.label(part)).join(", ").slice(0, 80));
    button.addEventListener("click", () => { fill(example); predict(); });
    return element("li", {}, [button]);
  });
  at("examples").replaceChildren(element("h3", { className: "quiet" }, [`Examples (${model.golden})`]), element("ul", { className: "examples" }, buttons));
}

function fill(example) {
  for (const [name, value] of Object.entries(example)) fields[name].set(value);
}

function requested() {
  const row = {};
  for (const [name, field] of Object.entries(fields)) row[name] = field.get();
  return row;
}

const bodyOf = (row) => {
  const names = Object.keys(row);
  const instance = names.length > 1 ? row : row[names[0]];
  return { signature_name: signature.name, instances: [instance] };
};

async function predict() {
  const asked = signature;
  let row;
  try {
    row = requested();
  } catch (error) {
    fail(error.message);
    return;
  }
  lastRequest = row;
  showCode();
  at("answer").classList.add("busy");
  const started = performance.now();
  try {
    if (model.streams.includes(asked.name)) {
      await stream(asked, row, started);
      return;
    }
    const response = await fetch(`v1/models/${encodeURIComponent(model.name)}:predict`, { method: "POST", headers, body: JSON.stringify(bodyOf(row)) });
    const text = await response.text();
    const spent = performance.now() - started;
    const content = JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|\bNaN\b|-?\bInfinity\b/g, (part) => (part[0] === '"' ? part : "null")));
    if (asked !== signature) return; // another signature was chosen meanwhile
    if (!response.ok) {
      fail(content.error);
      return;
    }
    const outputs = Object.keys(signature.outputs);
    const answer = outputs.length > 1 ? content.predictions[0] : { [outputs[0]]: content.predictions[0] };
    const shown = signature.shown;
    const kind = answerKinds[shown.kind] || answerKinds.values;
    at("answer").replaceChildren(...kind(answer, shown, model, row));
    at("latency").textContent = `${spent.toFixed(1)} ms, with the way to the server and back`;
  } catch (error) {
    fail(`The server does not answer (${error.message}). Start it again, and reload the page.`);
  } finally {
    at("answer").classList.remove("busy");
  }
}

async function stream(asked, row, started) {
  const response = await fetch(`v1/models/${encodeURIComponent(model.name)}:stream`, { method: "POST", headers, body: JSON.stringify(bodyOf(row)) });
  if (!response.ok) {
    fail(JSON.parse(await response.text()).error);
    return;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", rest = "", first = null;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (asked !== signature) { // another signature was chosen meanwhile
      await reader.cancel();
      return;
    }
    const events = (rest + part.value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const content = JSON.parse(event.slice(event.indexOf("data: ") + 6));
      if (content.error) {
        fail(content.error);
        return;
      }
      text += content.text;
      first = first ?? performance.now() - started;
    }
    const answer = Object.fromEntries(asked.shown.outputs.map((name) => [name, text]));
    at("answer").replaceChildren(...answerKinds.text(answer, asked.shown));
  }
  at("latency").textContent = `${first.toFixed(1)} ms to the first part, ${(performance.now() - started).toFixed(1)} ms in all`;
}

function fail(message) {
  at("answer").replaceChildren(element("p", { className: "error" }, [message]));
  at("latency").textContent = "";
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function programs() {
  const row = lastRequest;
  const address = `${location.origin}${location.pathname}v1/models/${model.name}:predict`;
  const withToken = token ? " -H \"Authorization: Bearer $TOKEN\"" : "";
  const raw = signature.media.find((media) => media.startsWith("image/") || media === "text/plain");
  const names = Object.keys(signature.inputs);
  const isFile = names.length === 1 && fields[names[0]].isFile;
  const extra = signature.name === model.first ? "" : `?signature=${signature.name}`;
  const rawAddress = `${location.origin}${location.pathname}predict/${model.name}${extra}`;
  if (isFile && raw) {
    const loader = "import base64, json, urllib.request\n\nfile = base64.b64encode(open(\"seven.png\", \"rb\").read()).decode()\n";
    return {
      curl: `curl --data-binary @seven.png -H 'Content-Type: image/png'${withToken} '${rawAddress}'`,
      Python: `${loader}body = {"signature_name": "${signature.name}", "instances": [{"b64": file}]}\n${python(address)}`,
    };
  }
  if (row === null) return { curl: "Send a request first.", Python: "Send a request first." };
  const body = JSON.stringify(bodyOf(row));
  const written = body.replaceAll(":null", ":None").replaceAll("[null", "[None").replaceAll(",null", ",None");
  return {
    curl: `curl${withToken} ${address} -d ${quoted(body)}`,
    Python: `import json, urllib.request\n\nbody = ${body === written ? body : `json.loads(r"""${body}""")`}\n${python(address)}`,
  };
}

function python(address) {
  const head = token ? ", {\"Authorization\": f\"Bearer {os.environ['TOKEN']}\"}" : "";
  const first = token ? "import os\n" : "";
  return `${first}request = urllib.request.Request("${address}", json.dumps(body).encode()${head})\nprint(json.load(urllib.request.urlopen(request)))`;
}

function showCode() {
  const found = programs();
  at("languages").replaceChildren(...Object.keys(found).map((name) => {
    const tab = element("button", { type: "button", role: "tab", "aria-selected": String(name === language), "aria-controls": "code" }, [name]);
    tab.addEventListener("click", () => { language = name; showCode(); at("languages").querySelector("[aria-selected=true]").focus(); });
    return tab;
  }));
  at("code").replaceChildren(element("pre", {}, [found[language]]));
  at("copied").textContent = "";
}

at("request").addEventListener("submit", (event) => { event.preventDefault(); predict(); });
at("request").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); predict(); }
});
at("signature").addEventListener("change", () => openSignature(at("signature").value));
at("model").addEventListener("change", () => openModel(at("model").value));
at("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(at("code").textContent);
  at("copied").textContent = "copied";
});
at("card").addEventListener("toggle", async () => {
  if (at("card").open && !at("card-text").textContent) {
    const response = await fetch(`card/${encodeURIComponent(model.name)}`, { headers });
    at("card-text").textContent = await response.text();
  }
});
document.querySelectorAll("footer a").forEach((link) => { if (token) link.search = `?token=${encodeURIComponent(token)}`; });

const names = Object.keys(models);
choices(at("model"), names, names[0]);
at("models").hidden = names.length < 2;
openModel(names[0]);
