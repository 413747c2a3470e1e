answerKinds.entities = (answer, shown, model) => {
  const parts = answerKinds.pairs(answer, shown, model);
  if (!answer.entities) return parts;
  const rows = answer.entities
    .map((text, place) => [text, answer.entity_types[place], answer.entity_probabilities[place], answer.entity_ends[place]])
    .filter((row) => row[3] > 0)
    .map(([text, kind, probability]) => [`${text} (${kind})`, probability]);
  return [rows.length ? bars(["entity", "probability"], rows, 1, false) : element("p", {}, ["no entity"]), ...parts];
};
