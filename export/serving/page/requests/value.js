// One column of a table: a number with its range in the training data, or a text with the known values.
requestKinds.value = (input, name) => {
  const id = `input-${name}`;
  const isNumber = input.dtype !== "string";
  const hints = [];
  const field = element("input", { id, autocomplete: "off" });
  const parts = [field];
  if (isNumber) {
    field.type = "text";
    field.inputMode = "decimal";
    if (input.low !== undefined) hints.push(`${show(input.low)} to ${show(input.high)} in the data`);
    hints.push("empty is missing");
  } else if (input.choices) {
    field.setAttribute("list", `known-${name}`);
    parts.push(element("datalist", { id: `known-${name}` }, input.choices.map((value) => element("option", { value }))));
    hints.push(`one of ${input.choices.slice(0, 6).join(", ")}${input.choices.length > 6 ? ", ..." : ""}`);
  } else if (input.description) {
    hints.push(input.description);
  }
  const note = element("small", { id: `${id}-note`, className: "quiet" }, [hints.join("; ")]);
  field.setAttribute("aria-describedby", note.id);
  return {
    isSmall: true,
    parts: [...parts, note],
    get: () => {
      const text = field.value.trim();
      if (!isNumber) return text;
      if (!text) return null;
      const number = Number(text);
      if (!Number.isFinite(number)) throw new Error(`${input.column || name} is "${text}"; expected a number. Correct it, or leave it empty.`);
      return number;
    },
    set: (value) => { field.value = value === null ? "" : typeof value === "number" ? String(exact(value)) : value; },
    label: (value) => (value === null ? "" : show(value)),
  };
};
