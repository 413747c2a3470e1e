answerKinds.labels = (answer, shown, model) => {
  const numbers = answer[shown.outputs[0]];
  const rows = numbers.map((number, place) => [model.labels[place] ?? String(place), number]).sort((a, b) => b[1] - a[1]);
  const undecided = answer.answered === false;
  const verdict = undecided ? `no answer; most probable: ${rows[0][0]}` : rows[0][0];
  return [element("p", { className: "verdict" }, [verdict]), bars(["label", "probability"], rows.slice(0, 10), 1, !undecided)];
};
