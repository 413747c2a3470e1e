requestKinds.id = (input, name, examples) => {
  const known = [...new Set(examples.map((example) => example[name]))];
  const field = element("input", { id: `input-${name}`, list: `known-${name}`, autocomplete: "off" });
  const list = element("datalist", { id: `known-${name}` }, known.map((value) => element("option", { value })));
  return {
    parts: [field, list],
    get: () => {
      if (!field.value) throw new Error(`${name} is empty. Type an id.`);
      return field.value;
    },
    set: (value) => { field.value = value; },
    label: (value) => value,
  };
};
