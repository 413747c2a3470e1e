requestKinds.number = (input, name) => {
  const sizes = input.shape.slice(1).map((size) => size ?? "any").join(" x ");
  const area = element("textarea", { id: `input-${name}`, rows: 4, spellcheck: false });
  return {
    parts: [area, element("small", { className: "quiet" }, [`JSON: ${sizes ? `numbers, ${sizes}` : "one number"}`])],
    get: () => {
      try {
        return JSON.parse(area.value);
      } catch (error) {
        throw new Error(`${name} is no JSON. Type numbers, such as [0.5, 1.5].`);
      }
    },
    set: (value) => { area.value = JSON.stringify(value); },
    label: (value) => JSON.stringify(value),
  };
};
