// A series: numbers with one row per step, typed, pasted, or dropped as a CSV file; drawn as curves.
requestKinds.series = (input, name) => {
  const channels = input.shape[2] ?? 1;
  const columns = input.columns || [];
  const area = element("textarea", { id: `input-${name}`, rows: 5, spellcheck: false });
  const file = element("input", { type: "file", accept: ".csv,.tsv,.txt", "aria-label": "CSV file" });
  const drawn = element("div");
  const read = () => {
    // With one channel, an empty line is a missing value.
    const lines = area.value.replace(/\r?\n$/, "").split(/\r?\n/).filter((line) => channels === 1 || line.trim());
    if (lines.length && /[a-z]/i.test(lines[0].replace(/nan/gi, ""))) lines.shift(); // a header
    if (!lines.some((line) => line.trim())) throw new Error("The series is empty. Type or paste rows of numbers.");
    return lines.map((line, place) => {
      const cells = line.split(/[,;\t]/).map((cell) => (/^\s*(nan)?\s*$/i.test(cell) ? null : Number(cell)));
      if (cells.length !== channels || cells.some(Number.isNaN)) {
        throw new Error(`Row ${place + 1} is "${line.slice(0, 40)}"; expected ${channels} number${channels > 1 ? "s" : ""}, separated by commas. Correct it.`);
      }
      return cells;
    });
  };
  const draw = () => {
    try {
      drawn.replaceChildren(curve(transposed(read()), `the series of the request`));
    } catch (error) {
      drawn.replaceChildren();
    }
  };
  area.addEventListener("input", draw);
  const take = async (given) => { area.value = await given.text(); draw(); };
  file.addEventListener("change", () => file.files[0] && take(file.files[0]));
  dropping(area, take);
  const what = columns.length ? columns.join(", ") : `${channels} number${channels > 1 ? "s" : ""}`;
  return {
    parts: [area, file, element("small", { className: "quiet" }, [` one row per step: ${what}; an empty cell is missing`]), drawn],
    get: read,
    set: (value) => { area.value = value.map((row) => row.map((cell) => (cell === null ? "" : exact(cell))).join(",")).join("\n") + "\n"; draw(); },
    label: (value) => `${value.length} steps: ${show(value[0][0])}, ...`,
  };
};
