answerKinds.several_labels = (answer, shown, model) => {
  const chosen = new Set(answer[shown.outputs[0]].filter(Boolean));
  const rows = answer[shown.outputs[1]].map((number, place) => [model.labels[place] ?? String(place), number]);
  rows.sort((a, b) => chosen.has(b[0]) - chosen.has(a[0]) || b[1] - a[1]);
  const verdict = chosen.size ? rows.filter((row) => chosen.has(row[0])).map((row) => row[0]).join(", ") : "no label";
  return [element("p", { className: "verdict" }, [verdict]), bars(["label", "probability"], rows.slice(0, 12), 1, (row) => chosen.has(row[0]))];
};
