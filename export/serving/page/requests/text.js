requestKinds.text = (input, name) => {
  const area = element("textarea", { id: `input-${name}`, rows: 3, spellcheck: false });
  return {
    parts: [area],
    get: () => {
      if (!area.value.trim()) throw new Error("The text is empty. Type a sentence.");
      return area.value;
    },
    set: (value) => { area.value = value; },
    label: (value) => value,
  };
};
