requestKinds.ids = (input, name, examples) => {
  const field = element("input", { id: `input-${name}`, autocomplete: "off", placeholder: "id,id" });
  return {
    parts: [field],
    get: () => {
      const ids = field.value.split(",").map((part) => part.trim()).filter((part) => part);
      if (!ids.length) throw new Error(`${name} is empty. Type ids, separated by commas.`);
      return ids;
    },
    set: (value) => { field.value = [value].flat().filter((part) => part).join(","); },
    label: (value) => [value].flat().filter((part) => part).join(", "),
  };
};
