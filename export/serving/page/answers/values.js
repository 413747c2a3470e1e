answerKinds.values = (answer, shown) => {
  const names = shown.outputs.length ? shown.outputs : Object.keys(answer);
  const rows = names.map((name) => {
    const value = answer[name];
    if (!Array.isArray(value)) return [name, typeof value === "number" ? show(value) : String(value)];
    const flat = value.flat(9);
    const text = flat.slice(0, 16).map((part) => (typeof part === "number" ? show(part) : part)).join(" ");
    return [name, flat.length > 16 ? `${text} ... (${flat.length} values)` : text];
  });
  const single = rows.length === 1 && !Array.isArray(answer[names[0]]);
  const table = element("table", {}, [
    element("tbody", {}, rows.map(([name, text]) => element("tr", {}, [
      element("th", { scope: "row" }, [name]), element("td", { className: single ? "verdict" : "" }, [text]),
    ]))),
  ]);
  return [table];
};
