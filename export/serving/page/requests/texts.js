requestKinds.texts = (input, name) => {
  const area = element("textarea", { id: `input-${name}`, rows: 2, spellcheck: false, placeholder: "a text in each line, \\n for a line break" });
  return {
    parts: [area],
    get: () => area.value.split("\n").map((line) => line.replaceAll("\\n", "\n")),
    set: (value) => { area.value = [value].flat().map((text) => text.replaceAll("\n", "\\n")).join("\n"); },
    label: (value) => [value].flat().map((text) => text.replaceAll("\n", "\\n")).join(", "),
  };
};
