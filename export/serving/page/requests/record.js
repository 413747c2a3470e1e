requestKinds.record = (input, name) => {
  const area = element("textarea", { id: `input-${name}`, rows: 4, spellcheck: false });
  return {
    parts: [area, element("small", { className: "quiet" }, ["a serialized tf.Example, in base64"])],
    get: () => ({ b64: area.value.trim() }),
    set: (value) => { area.value = value.b64; },
    label: (value) => `${Math.floor(value.b64.length * 0.75)} bytes`,
  };
};
